//! Annotations good and bad, headers made from arguments, headers held against them.

use bytes::Bytes;

use super::*;

fn read(properties: &str) -> Result<ParamHeaders, AnnotationFault> {
    ParamHeaders::of_schema(format!(r#"{{"type":"object","properties":{{{properties}}}}}"#).as_bytes())
}

fn object(text: &str) -> Object {
    Object::parse(Bytes::copy_from_slice(text.as_bytes()), Limits::default()).expect("valid")
}

fn derived(params: &ParamHeaders, arguments: &str) -> Vec<String> {
    let headers = params.derive(&object(arguments)).into_iter();
    headers.map(|(name, value)| format!("{name}: {}", value.to_str().expect("ASCII"))).collect()
}

fn checked(params: &ParamHeaders, arguments: &str, headers: &[(&str, &str)]) -> Result<(), HeaderFault> {
    let values = |name: &HeaderName| {
        let name = name.as_str().to_owned();
        headers.iter().filter(move |header| header.0 == name).map(|header| header.1.as_bytes())
    };
    params.check(&object(arguments), values).map_err(|fault| fault.fault)
}

const TYPED: &str = r#"
    "region":{"type":"string","x-mcp-header":"Region"},
    "count":{"type":"integer","x-mcp-header":"Count"},
    "flag":{"type":["boolean","null"],"x-mcp-header":"Flag"},
    "where":{"type":"object","properties":{"deep":{"properties":{"zone":{"type":"string","x-mcp-header":"X"}}}}},
    "x-mcp-header":{"type":"string"},
    "plain":{"type":"string","default":{"x-mcp-header":"data"},"description":"not x-mcp-header"}"#;

#[test]
fn s_hdr_09_the_ten_tools_that_must_be_dropped() {
    let name = |at: &str| AnnotationFault::Name { at: at.into() };
    let kind = |at: &str| AnnotationFault::NotPrimitive { at: at.into() };
    let twice = |name: &str| AnnotationFault::Duplicate { name: name.into() };
    for (properties, fault) in [
        (r#""value":{"type":"string","x-mcp-header":""}"#, name("value")),
        (r#""data":{"type":"object","x-mcp-header":"Data"}"#, kind("data")),
        (r#""items":{"type":"array","items":{"type":"string"},"x-mcp-header":"Items"}"#, kind("items")),
        (r#""nil":{"type":"null","x-mcp-header":"Nil"}"#, kind("nil")),
        (
            r#""a":{"type":"string","x-mcp-header":"Region"},"b":{"type":"string","x-mcp-header":"Region"}"#,
            twice("region"),
        ),
        (
            r#""a":{"type":"string","x-mcp-header":"MyField"},"b":{"type":"string","x-mcp-header":"myfield"}"#,
            twice("myfield"),
        ),
        (r#""value":{"type":"string","x-mcp-header":"My Region"}"#, name("value")),
        (r#""value":{"type":"string","x-mcp-header":"Region:Primary"}"#, name("value")),
        (r#""value":{"type":"string","x-mcp-header":"Région"}"#, name("value")),
        (r#""value":{"type":"string","x-mcp-header":"Region\t1"}"#, name("value")),
        (r#""value":{"type":"string","x-mcp-header":"a\r\nb: c"}"#, name("value")),
        (r#""value":{"type":"string","x-mcp-header":7}"#, name("value")),
        (r#""value":{"type":"number","x-mcp-header":"Value"}"#, kind("value")),
        (r#""value":{"x-mcp-header":"Value"}"#, kind("value")),
        (r#""value":{"type":["string","integer"],"x-mcp-header":"Value"}"#, kind("value")),
        (r#""value":{"type":"string","\u0078-mcp-header":""}"#, name("value")),
    ] {
        assert_eq!(read(properties), Err(fault), "{properties}");
    }
    assert!(!read(r#""region":{"type":"string","x-mcp-header":"Region"}"#).expect("valid").is_empty());
}

#[test]
fn s_hdr_09_only_properties_lead_to_an_annotation() {
    let annotated = r#"{"type":"string","x-mcp-header":"Region"}"#;
    for schema in [
        String::from(r#"{"x-mcp-header":"Root","type":"object"}"#),
        format!(r#"{{"properties":{{"list":{{"type":"array","items":{annotated}}}}}}}"#),
        format!(r#"{{"properties":{{"list":{{"prefixItems":[{annotated}]}}}}}}"#),
        format!(r#"{{"properties":{{"list":{{"items":{{"properties":{{"a":{annotated}}}}}}}}}}}"#),
        format!(r#"{{"anyOf":[{{"properties":{{"a":{annotated}}}}}]}}"#),
        format!(r#"{{"properties":{{"a":{{"oneOf":[{annotated},{{"type":"null"}}]}}}}}}"#),
        format!(r#"{{"if":{{"properties":{{"a":{annotated}}}}},"then":{{}}}}"#),
        format!(r##"{{"$defs":{{"region":{annotated}}},"properties":{{"a":{{"$ref":"#/$defs/region"}}}}}}"##),
        format!(r#"{{"additionalProperties":{annotated}}}"#),
        format!(r#"{{"patternProperties":{{"^a":{annotated}}}}}"#),
    ] {
        let fault = ParamHeaders::of_schema(schema.as_bytes()).expect_err("unreachable");
        assert!(matches!(fault, AnnotationFault::Unreachable { .. }), "{schema}: {fault}");
    }
    assert_eq!(ParamHeaders::of_schema(br#"["x-mcp-header"]"#), Err(AnnotationFault::Schema));
    let unannotated = br#"{"properties":{"x-mcp-header":{"type":"string"}},"enum":[{"x-mcp-header":1}]}"#;
    assert!(ParamHeaders::of_schema(unannotated).expect("valid").is_empty());
}

#[test]
fn s_hdr_04_headers_repeat_what_the_arguments_say() {
    let params = read(TYPED).expect("valid");
    assert_eq!(
        derived(&params, r#"{"region":"us-west1","count":42,"flag":false,"where":{"deep":{"zone":"é"}}}"#),
        [
            "mcp-param-count: 42",
            "mcp-param-flag: false",
            "mcp-param-region: us-west1",
            "mcp-param-x: =?base64?w6k=?="
        ]
    );
    assert_eq!(
        derived(&params, r#"{"region":"","count":-7,"flag":true,"x-mcp-header":"no"}"#),
        ["mcp-param-count: -7", "mcp-param-flag: true", "mcp-param-region: "]
    );
    assert_eq!(derived(&params, r#"{"region":null,"flag":null,"where":{"deep":[]},"plain":"x"}"#), [""; 0]);
    assert_eq!(derived(&params, "{}"), [""; 0]);
    for (count, header) in
        [("42.0", "42"), ("4.2e1", "42"), ("9007199254740993", "9007199254740993"), ("-0.0", "-0")]
    {
        let arguments = format!(r#"{{"count":{count}}}"#);
        assert_eq!(derived(&params, &arguments), [format!("mcp-param-count: {header}")]);
        assert_eq!(checked(&params, &arguments, &[("mcp-param-count", header)]), Ok(()));
    }
    for count in ["1.5", "1e300", "[1]", "{}"] {
        assert_eq!(derived(&params, &format!(r#"{{"count":{count}}}"#)), [""; 0], "{count}");
    }
    let injected = derived(&params, r#"{"region":"a\r\nx-evil: 1"}"#);
    assert_eq!(injected, ["mcp-param-region: =?base64?YQ0KeC1ldmlsOiAx?="]);
}

#[test]
fn s_hdr_05_inbound_headers_are_held_against_the_arguments() {
    let params = read(TYPED).expect("valid");
    let arguments = r#"{"region":"us-west1","count":42}"#;
    let region = ("mcp-param-region", "us-west1");
    let check = |headers: &[(&str, &str)]| checked(&params, arguments, headers);

    assert_eq!(check(&[region, ("mcp-param-count", "42")]), Ok(()));
    assert_eq!(check(&[region, ("mcp-param-count", " 42.0 "), ("mcp-param-other", "x")]), Ok(()));
    assert_eq!(
        check(&[("mcp-param-region", "=?base64?dXMtd2VzdDE=?="), ("mcp-param-count", "4.2e1")]),
        Ok(())
    );

    for count in ["43", "+42", "0x2A", "42.5", "", "NaN", "\"42\"", "042"] {
        assert_eq!(check(&[region, ("mcp-param-count", count)]), Err(HeaderFault::Differs), "{count}");
    }
    assert_eq!(check(&[region]), Err(HeaderFault::Missing));
    assert_eq!(
        check(&[("mcp-param-region", "US-WEST1"), ("mcp-param-count", "42")]),
        Err(HeaderFault::Differs)
    );
    assert_eq!(check(&[region, region, ("mcp-param-count", "42")]), Err(HeaderFault::Repeated));
    let broken = ("mcp-param-region", "=?base64?dXMtd2VzdDE?=");
    assert_eq!(check(&[broken, ("mcp-param-count", "42")]), Err(HeaderFault::Malformed));
    let flagged = [region, ("mcp-param-count", "42"), ("mcp-param-flag", "true")];
    assert_eq!(check(&flagged), Err(HeaderFault::Differs), "the body has none");

    assert_eq!(checked(&params, r#"{"flag":null}"#, &[]), Ok(()));
    assert_eq!(
        checked(&params, r#"{"flag":true}"#, &[("mcp-param-flag", "True")]),
        Err(HeaderFault::Differs)
    );
    let close = [("mcp-param-count", "9007199254740993")];
    assert_eq!(checked(&params, r#"{"count":9007199254740992}"#, &close), Err(HeaderFault::Differs));
}

#[test]
fn a_schema_without_the_word_is_not_read_at_all() {
    assert!(ParamHeaders::of_schema(b"{ this is not even JSON").expect("not read").is_empty());
}
