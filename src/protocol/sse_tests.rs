//! The parser against the event stream format, against an independent reading of it, and against noise.

use proptest::prelude::*;

use super::*;

fn events_of<'a>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
    limit: usize,
) -> Vec<Result<SseEvent, SseFault>> {
    let mut parser = SseParser::new(limit);
    let mut events = Vec::new();
    for chunk in chunks {
        parser.push(Bytes::copy_from_slice(chunk));
        events.extend(std::iter::from_fn(|| parser.next_event()));
    }
    events
}

fn whole(stream: &str) -> Vec<SseEvent> {
    events_of([stream.as_bytes()], 1 << 20)
        .into_iter()
        .map(|event| event.expect("within the limit"))
        .collect()
}

fn data_of(stream: &str) -> Vec<String> {
    whole(stream).iter().map(|event| String::from_utf8_lossy(&event.data).into_owned()).collect()
}

/// Reads a whole stream line by line, as the format is described, without any of the parser's means.
fn reference(stream: &[u8]) -> Vec<SseEvent> {
    let text = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let mut lines = vec![Vec::new()];
    let mut at = 0;
    while at < text.len() {
        if text[at] == b'\r' || text[at] == b'\n' {
            at += if text[at..].starts_with(b"\r\n") { 2 } else { 1 };
            lines.push(Vec::new());
        } else {
            lines.last_mut().expect("never empty").push(text[at]);
            at += 1;
        }
    }
    lines.pop();
    let (mut events, mut event, mut data, mut seen) = (Vec::new(), SseEvent::default(), Vec::new(), false);
    for line in lines {
        if line.is_empty() {
            if seen {
                event.data = Bytes::from(data.join(&b'\n'));
                events.push(event);
            }
            (event, data, seen) = (SseEvent::default(), Vec::new(), false);
            continue;
        }
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = parts.next().unwrap_or_default().to_vec();
        let value = parts.next().unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value).to_vec();
        let text = String::from_utf8_lossy(&value).into_owned();
        match &name[..] {
            b"data" => data.push(value),
            b"event" => event.event = Some(Bytes::from(value)),
            b"id" if !value.contains(&0) => event.id = Some(text.into_boxed_str()),
            b"retry" if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) => match text.parse() {
                Ok(retry) => event.retry = Some(retry),
                Err(_) => continue,
            },
            _ => continue,
        }
        seen = true;
    }
    events
}

#[test]
fn s_httpc_08_lines_end_with_lf_cr_or_crlf() {
    for end in ["\n", "\r", "\r\n"] {
        let stream =
            ["event: message", "id: 7", "data: a", "data: b", "", ": still here", "", "data:c", "", ""];
        let events = whole(&stream.join(end));
        assert_eq!(events.len(), 2, "{end:?}");
        assert_eq!(events[0].event.as_deref(), Some(&b"message"[..]));
        assert_eq!(events[0].id.as_deref(), Some("7"));
        assert_eq!(&events[0].data[..], b"a\nb");
        assert_eq!(&events[1].data[..], b"c");
        assert_eq!(events[1].id, None, "an id is told only with its event");
    }
}

#[test]
fn s_httpc_08_events_without_data_still_carry_ids_and_times() {
    let events = whole("id: 1\ndata:\n\nretry: 500\n\nid\ndata: x\n\n:\n\n\n\nretry: 5s\n\n");
    assert_eq!(events.len(), 3);
    assert_eq!((events[0].id.as_deref(), events[0].data.len()), (Some("1"), 0));
    assert_eq!(events[1].retry, Some(500));
    assert_eq!(events[2].id.as_deref(), Some(""));
}

#[test]
fn a_byte_order_mark_is_dropped_at_the_start_only() {
    assert_eq!(data_of("\u{feff}data: a\n\n\u{feff}data: b\n\ndata: \u{feff}c\n\n"), ["a", "\u{feff}c"]);
}

#[test]
fn only_one_space_is_taken_and_an_unfinished_event_is_none() {
    assert_eq!(data_of("data:  a\n\ndata: b\n"), [" a"]);
}

#[test]
fn a_single_data_line_is_not_copied() {
    let chunk = Bytes::from_static(b"event: message\ndata: {\"a\":1}\n\n");
    let mut parser = SseParser::new(100);
    parser.push(chunk.clone());
    let event = parser.next_event().expect("complete").expect("valid");
    assert!(chunk.as_ptr_range().contains(&event.data.as_ptr()));
}

#[test]
fn f37_an_event_that_passes_the_limit_is_a_fault_and_those_behind_it_are_read() {
    let long = format!("data: 1{}\n\n", "x".repeat(100));
    let lines = "data: 12345\n".repeat(4) + "\n";
    let both = format!("data: 123\ndata:{}\ndata: {}\ndata: y\n\n", "x".repeat(90), "x".repeat(90));
    let empty = "data\n".repeat(20) + "\n";
    for (stream, begins) in [(&long, "1x"), (&lines, "12345"), (&both, "123"), (&empty, "")] {
        for size in [1, 7, 1000] {
            let whole = format!("data: a\n\n{stream}data: b\n\n");
            let events = events_of(whole.as_bytes().chunks(size), 10);
            let read: Vec<_> = events.iter().flatten().map(|event| &event.data[..]).collect();
            assert_eq!(read, [b"a", b"b"], "{whole:?} by {size}");
            let [_, Err(SseFault::TooLarge { limit: 10, start }), _] = &events[..] else {
                panic!("{whole:?} by {size}: {events:?}");
            };
            assert!(start.starts_with(begins.as_bytes()) && start.len() <= START, "{start:?}");
        }
    }
    assert_eq!(events_of([&b"data: 1234567890\n\n"[..]], 10).len(), 1);
    assert!(events_of([&b"data: 1234567890\n\n"[..]], 10)[0].is_ok());
}

#[test]
fn f37_what_an_event_that_is_too_large_says_besides_its_data_is_kept() {
    let x = "x".repeat(100);
    for stream in [format!("id: 7\ndata: {x}\n\n"), format!("data: {x}\r\ndata: {x}\r\nid: 7\r\n\r\n")] {
        for size in [1, 7, 1000] {
            let events = events_of(stream.as_bytes().chunks(size), 10);
            assert_eq!(events.len(), 2, "{stream:?} by {size}: {events:?}");
            let event = events[1].as_ref().expect("an event");
            assert_eq!((event.id.as_deref(), event.data.len()), (Some("7"), 0));
        }
    }
    let comment = format!(": {x}\ndata: a\n: {x}\n\n");
    for size in [1, 7, 1000] {
        let events = events_of(comment.as_bytes().chunks(size), 10);
        assert_eq!(events.len(), 1, "a long comment is no loss: {events:?}");
        assert_eq!(&events[0].as_ref().expect("an event").data[..], b"a");
    }
}

#[test]
fn what_is_written_reads_back_on_one_line() {
    let mut out = Vec::new();
    write_comment(&mut out, "keep\nalive");
    write_retry(&mut out, 500);
    write_event(&mut out, Some("a.1"), None, b"");
    write_event(&mut out, None, Some("message"), b"{\r\n  \"a\": 1\n}");
    assert_eq!(
        String::from_utf8(out.clone()).expect("UTF-8"),
        ": keep alive\n\nretry: 500\nid: a.1\ndata: \n\nevent: message\ndata: {    \"a\": 1 }\n\n"
    );
    let events = whole(std::str::from_utf8(&out).expect("UTF-8"));
    assert_eq!((events[0].retry, events[0].id.as_deref()), (Some(500), Some("a.1")));
    assert_eq!(&events[1].data[..], b"{    \"a\": 1 }");
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "data",
        "data:",
        "data: x",
        "data: {\"é\":\"\u{1f600}\"}",
        "id: 1",
        "id:a\0b",
        "id",
        "retry: 10",
        "retry:",
        "retry: 99999999999999999999",
        "event: e",
        ": c",
        "other: x",
        " data: x",
        "\u{feff}",
        "\r",
        "\n",
        "\r\n",
        "\n\n",
        "\r\r",
        "\r\n\r\n",
        "x",
        ":",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn any_split_of_a_stream_gives_the_reference_reading(
        stream in stream(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let chunks = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]);
        let events: Result<Vec<_>, _> = events_of(chunks, 1 << 20).into_iter().collect();
        prop_assert_eq!(events, Ok(reference(&stream)));
    }

    #[test]
    fn noise_never_panics_and_never_grows(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..20), limit in 0_usize..50,
    ) {
        let mut parser = SseParser::new(limit);
        for chunk in chunks {
            parser.push(Bytes::from(chunk));
            while let Some(event) = parser.next_event() {
                match event {
                    Ok(event) => prop_assert!(event.data.len() <= limit),
                    Err(SseFault::TooLarge { start, .. }) => prop_assert!(start.len() <= START),
                }
            }
            prop_assert!(parser.chunk.is_empty());
            prop_assert!(parser.line.len() <= limit + FIELD_SPACE);
        }
    }
}
