//! The messages of a listening, each with the id of the request that opened it, in its own JSON type (S-SUB-03).

use super::filter::{KINDS, Lists};
use crate::protocol::frame::RequestId;
use crate::protocol::json::{Object, quote};
use crate::protocol::message::notification;
use crate::protocol::splice::Edit;
use crate::protocol::translate::HOP_META;

/// The key that says of which listening a message is.
pub const SUBSCRIPTION_KEY: &str = "io.modelcontextprotocol/subscriptionId";

fn meta(id: &RequestId) -> String {
    format!(r#""_meta":{{"{SUBSCRIPTION_KEY}":{}}}"#, String::from_utf8_lossy(id.as_bytes()))
}

/// The first message: what is honoured of what was asked.
pub(super) fn acknowledged<'t>(
    id: &RequestId,
    lists: Lists,
    uris: impl Iterator<Item = &'t str>,
    tasks: impl Iterator<Item = &'t str>,
) -> Vec<u8> {
    let named = KINDS.iter().filter(|kind| !lists.both(kind.bit).is_empty());
    let lists = named.map(|kind| format!(r#""{}":true"#, kind.member));
    let (uris, tasks) = (strings("resourceSubscriptions", uris), strings("taskIds", tasks));
    let honoured = lists.chain(uris).chain(tasks).collect::<Vec<_>>().join(",");
    let params = format!(r#"{{{},"notifications":{{{honoured}}}}}"#, meta(id));
    notification("notifications/subscriptions/acknowledged", params.as_bytes())
}

/// A member that lists these; none where there are none.
fn strings<'t>(member: &str, all: impl Iterator<Item = &'t str>) -> Option<String> {
    let all: Vec<String> = all.map(quote).collect();
    (!all.is_empty()).then(|| format!(r#""{member}":[{}]"#, all.join(",")))
}

/// A task is in this state now, an object with members: what `tasks/get` would say of it (S-TX-10).
pub fn task(id: &RequestId, state: &[u8]) -> Vec<u8> {
    let open = state.strip_suffix(b"}").unwrap_or(state);
    let params = [open, b",", meta(id).as_bytes(), b"}"].concat();
    notification("notifications/tasks", &params)
}

/// A list changed.
pub(super) fn list_changed(id: &RequestId, method: &str) -> Vec<u8> {
    notification(method, format!("{{{}}}", meta(id)).as_bytes())
}

/// A resource was updated: what its server said, under the URI by which the client knows it.
pub(super) fn updated(id: &RequestId, params: &Object, public: &str) -> Vec<u8> {
    let mut edit = Edit::of(params);
    for key in HOP_META {
        edit.remove_meta(key);
    }
    edit.set_text("uri", public);
    edit.set_meta(SUBSCRIPTION_KEY, id.as_bytes());
    let mut text = Vec::with_capacity(params.as_bytes().len() + 96);
    edit.write(&mut text);
    notification("notifications/resources/updated", &text)
}

/// The gateway ends it; on pipes, where there is no stream to end, this goes before the result (S-SUB-10).
pub fn cancelled(id: &RequestId) -> Vec<u8> {
    let raw = String::from_utf8_lossy(id.as_bytes()).into_owned();
    let params = format!(r#"{{"requestId":{raw},{}}}"#, meta(id));
    notification("notifications/cancelled", params.as_bytes())
}

/// The result of the request, when the gateway ends it. `server` is how the gateway names itself, raw.
pub fn over(id: &RequestId, server: &str) -> Vec<u8> {
    let raw = String::from_utf8_lossy(id.as_bytes()).into_owned();
    let meta = format!(r#"{{"io.modelcontextprotocol/serverInfo":{server},"{SUBSCRIPTION_KEY}":{raw}}}"#);
    format!(r#"{{"jsonrpc":"2.0","id":{raw},"result":{{"resultType":"complete","_meta":{meta}}}}}"#).into()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::json::Limits;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn s_sub_03_every_message_has_the_id_in_its_own_type() {
        for (id, raw) in [(RequestId::number(1), "1"), (RequestId::text("1"), r#""1""#)] {
            let tagged = format!(r#""io.modelcontextprotocol/subscriptionId":{raw}"#);
            let params = Object::parse(Bytes::from_static(br#"{"uri":"x:1"}"#), Limits::NONE).expect("valid");
            for message in [
                acknowledged(&id, Lists::TOOLS, ["x:1"].into_iter(), ["t"].into_iter()),
                task(&id, br#"{"taskId":"t","status":"working"}"#),
                list_changed(&id, "notifications/tools/list_changed"),
                updated(&id, &params, "x:1"),
                cancelled(&id),
                over(&id, "{}"),
            ] {
                let message = text(message);
                assert!(message.contains(&tagged), "{message}");
                assert!(Object::parse(Bytes::from(message), Limits::default()).is_ok());
            }
        }
    }

    #[test]
    fn s_sub_06_an_update_keeps_its_words_but_for_those_of_the_other_hop() {
        let said =
            r#"{"uri":"x:1","more": 1.50,"_meta":{"io.modelcontextprotocol/subscriptionId":9,"mine":[ ]}}"#;
        let params = Object::parse(Bytes::from(said), Limits::default()).expect("valid");
        assert_eq!(
            text(updated(&RequestId::text("a"), &params, "y:1")),
            concat!(
                r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"y:1","more": 1.50,"#,
                r#""_meta":{"io.modelcontextprotocol/subscriptionId":"a","mine":[ ]}}}"#
            )
        );
    }
}
