//! The JSON that other programs are built against. Fields may be added, none is renamed.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use olb_exec_api::Info;
use olb_lease::Plan;
use olb_review::display::is_safe;
use olb_review::quote;
use olb_wire::{Health, RequestView};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::text::time;

/// One line of JSON in which no character can act on a terminal: what is not display-safe is
/// written as `\uXXXX`, which JSON readers undo.
pub(crate) fn line(value: &impl Serialize) -> String {
    // Serialising a value that is made of strings and numbers cannot fail.
    let plain = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
    let mut line = String::with_capacity(plain.len());
    for character in plain.chars() {
        if is_safe(character) {
            line.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a String cannot fail.
            let _always_ok = write!(line, "\\u{unit:04x}");
        }
    }
    line
}

/// Bytes as a JSON string; `None` beside it where the string is all of them.
///
/// Bytes that are not UTF-8 become `\xNN` in the string, and the exact bytes are given in base64.
pub(crate) fn lossy(bytes: &[u8]) -> (String, Option<String>) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return (text.to_owned(), None);
    }
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _always_ok = write!(text, "\\x{byte:02x}");
        }
    }
    (text, Some(STANDARD.encode(bytes)))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _always_ok = write!(text, "{byte:02x}");
    }
    text
}

/// Undoes [`hex`]; `None` for any other text.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

/// Sets `name`, and `name_b64` where the string cannot hold the bytes.
pub(crate) fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    let (text, exact) = lossy(bytes);
    object.insert(name.to_owned(), text.into());
    if let Some(exact) = exact {
        object.insert(format!("{name}_b64"), exact.into());
    }
}

/// Sets `name` to a list, and `name_b64` to a list of all of them where one string is lossy.
pub(crate) fn put_words(object: &mut Map<String, Value>, name: &str, words: &[Vec<u8>]) {
    let shown: Vec<_> = words.iter().map(|word| lossy(word)).collect();
    if shown.iter().any(|(_, exact)| exact.is_some()) {
        let exact: Vec<_> = words.iter().map(|word| STANDARD.encode(word)).collect();
        object.insert(format!("{name}_b64"), exact.into());
    }
    let shown: Vec<_> = shown.into_iter().map(|(text, _)| text).collect();
    object.insert(name.to_owned(), shown.into());
}

/// A request, as `request`, `status`, `list`, `show`, `result` and the deciding commands print it.
pub(crate) fn request(view: &RequestView) -> Map<String, Value> {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            object.insert(name.to_owned(), value);
        }
    };
    put("request_id", view.request_id.as_str().into());
    put("code", view.code.as_str().into());
    put("state", view.state.as_str().into());
    put("requester_uid", view.requester_uid.into());
    put("created_at", time(view.created_at).into());
    put("expires_at", time(view.expires_at).into());
    put("joined", view.joined.into());
    put("lease", view.lease.as_ref().map(|lease| olb_lease::armor::encode(lease)).into());
    put("lease_expires_at", view.lease_expires_at.map(time).into());
    put("decided_by", view.decided_by.clone().into());
    put("reason", view.reason.clone().into());
    put("exit_code", view.exit_code.into());
    put("signal", view.signal.into());
    put("errno", view.errno.into());
    put("may_be_running", view.may_be_running.into());
    put("retry_after_secs", view.retry_after_secs.into());
    let has_run = ["exited", "killed"].contains(&view.state.as_str());
    if has_run {
        put_bytes(&mut object, "stdout_tail", &view.stdout_tail);
        put_bytes(&mut object, "stderr_tail", &view.stderr_tail);
    }
    if let Ok(plan) = Plan::decode(&view.plan) {
        put_plan(&mut object, &plan);
    }
    object
}

/// Sets what a plan says of files, and of how long the command lasts.
fn put_files(object: &mut Map<String, Value>, plan: &Plan) {
    if plan.typed_argv != plan.argv {
        put_words(object, "typed", &plan.typed_argv);
    }
    let named = |word: u32, path: &[u8]| {
        let mut file = Map::new();
        file.insert("word".into(), word.into());
        put_bytes(&mut file, "path", path);
        file
    };
    let copied = plan.staged.iter().map(|file| {
        let mut object = named(file.word, &file.path);
        object.insert("size".into(), file.size.into());
        object.insert("sha256".into(), file.sha256.hex().into());
        object.insert("executable".into(), file.executable.into());
        Value::Object(object)
    });
    object.insert("files".into(), copied.collect());
    let unbound = plan.unbound.iter().map(|file| Value::Object(named(file.word, &file.path)));
    object.insert("unbound".into(), unbound.collect());
    object.insert("cwd_changeable".into(), plan.cwd_changeable.into());
    object.insert("uninterrupted".into(), plan.whole.into());
}

/// Sets what a plan says of its command.
pub(crate) fn put_plan(object: &mut Map<String, Value>, plan: &Plan) {
    object.insert("command".into(), quote::command(&plan.argv).into());
    put_words(object, "argv", &plan.argv);
    put_bytes(object, "executable", &plan.executable.path);
    put_bytes(object, "cwd", &plan.cwd.path);
    let run_as = &plan.run_as;
    let target = json!({
        "name": run_as.name, "uid": run_as.uid, "gid": run_as.gid, "groups": run_as.groups,
    });
    object.insert("run_as".into(), target);
    object.insert("host".into(), plan.host.as_str().into());
    object.insert("agent_says".into(), plan.reason.as_str().into());
    object.insert("session".into(), plan.session.as_str().into());
    put_files(object, plan);
}

/// A failure: its stable name and sentence, over the request it is about where there is one.
pub(crate) fn failure(failure: &Failure) -> Map<String, Value> {
    let mut object = failure.view.as_deref().map(request).unwrap_or_default();
    object.insert("error".into(), failure.name.into());
    object.insert("message".into(), failure.text.as_str().into());
    object
}

/// `olb status`: health, limits and the caller's requests.
pub(crate) fn status(
    health: &Health,
    info: Option<&Info>,
    requests: Vec<Map<String, Value>>,
) -> Value {
    let limits: Map<_, _> =
        health.limits.iter().map(|(name, value)| (name.clone(), (*value).into())).collect();
    let execd_limits = |info: &Info| {
        let limits = info.limits.iter().map(|one| (one.name.clone(), one.value.into()));
        Value::Object(limits.collect())
    };
    json!({
        "health": {
            "broker": true,
            "execd": health.execd,
            "problem": health.problem,
            "version": health.version,
            "open_requests": health.open_requests,
            "host": info.map(|info| info.host.as_str()),
            "boundary": info.map(|info| info.boundary),
            "epoch": info.map(|info| info.epoch.hex()),
            "audit_sequence": info.map(|info| info.sequence),
            "limits": limits,
            "execd_limits": info.map(execd_limits),
        },
        "requests": requests,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::view;

    #[test]
    fn a_pending_request_has_the_documented_fields() {
        let object = request(&view("pending"));
        assert_eq!(object["code"], "7FK-3QX");
        assert_eq!(object["state"], "pending");
        assert_eq!(object["expires_at"], "2026-11-22T16:00:00Z");
        assert_eq!(object["command"], "systemctl restart nginx");
        assert_eq!(object["argv"], json!(["systemctl", "restart", "nginx"]));
        assert!(object["request_id"].as_str().unwrap().starts_with("req_"));
        assert!(!object.contains_key("lease") && !object.contains_key("exit_code"));
    }

    #[test]
    fn files_are_told_by_word_path_and_content() {
        let mut plan = crate::testing::plan();
        plan.staged = vec![olb_lease::Staged {
            word: 2,
            prefix: 0,
            path: "/home/agent/nginx".into(),
            size: 3,
            sha256: olb_lease::Digest([7; 32]),
            executable: false,
        }];
        plan.unbound = vec![olb_lease::Unbound { word: 1, path: "/home/agent/r".into() }];
        plan.argv[2] = "/pin/0/nginx".into();
        (plan.cwd_changeable, plan.whole) = (true, true);
        let mut object = Map::new();
        put_plan(&mut object, &plan);
        assert_eq!(object["typed"], json!(["systemctl", "restart", "nginx"]));
        let file = json!({
            "word": 2, "path": "/home/agent/nginx", "size": 3, "sha256": "07".repeat(32),
            "executable": false,
        });
        assert_eq!(object["files"], json!([file]));
        assert_eq!(object["unbound"], json!([{"word": 1, "path": "/home/agent/r"}]));
        assert_eq!(
            (&object["cwd_changeable"], &object["uninterrupted"]),
            (&json!(true), &json!(true))
        );
    }

    #[test]
    fn an_approved_request_carries_the_armored_lease() {
        let mut approved = view("approved");
        approved.lease = Some(vec![1; olb_lease::LEASE_BYTES].into());
        approved.lease_expires_at = Some(1_795_363_200);
        let object = request(&approved);
        let lease = object["lease"].as_str().unwrap();
        assert_eq!(olb_lease::armor::decode(lease).unwrap(), vec![1; olb_lease::LEASE_BYTES]);
        assert_eq!(object["lease_expires_at"], "2026-11-22T16:00:00Z");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_escaped_and_given_exactly() {
        let mut object = Map::new();
        put_words(&mut object, "argv", &[b"a\xffb".to_vec(), b"c".to_vec()]);
        put_bytes(&mut object, "cwd", b"/x");
        assert_eq!(object["argv"], json!(["a\\xffb", "c"]));
        assert_eq!(object["argv_b64"], json!(["Yf9i", "Yw=="]));
        assert!(!object.contains_key("cwd_b64"));
    }

    #[test]
    fn a_line_cannot_act_on_a_terminal_and_reads_back() {
        let text = "a\u{1b}[2J\u{202e}\u{7f}\u{9b}\n🦞\u{e0041}\"";
        let line = line(&json!({ "text": text }));
        assert!(line.chars().all(is_safe), "{line}");
        let back: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(back["text"], text);
    }

    #[test]
    fn a_failure_names_itself_over_its_request() {
        let denied = olb_exec_api::Reason::Denied;
        let denied = Failure::from_broker(denied as u16, "x", Some(Box::new(view("denied"))));
        let object = failure(&denied);
        assert_eq!((&object["error"], &object["state"]), (&json!("denied"), &json!("denied")));
        assert!(object["message"].as_str().unwrap().starts_with("denied"));
        let plain = failure(&Failure::no_broker());
        assert_eq!(plain.len(), 2);
        assert_eq!(plain["error"], "unavailable");
    }

    #[test]
    fn status_keeps_its_shape() {
        let health =
            Health { execd: true, limits: vec![("pending".into(), 16)], ..Health::default() };
        let object = status(&health, None, vec![request(&view("pending"))]);
        assert_eq!(object["health"]["execd"], true);
        assert_eq!(object["health"]["limits"]["pending"], 16);
        assert_eq!(object["requests"][0]["code"], "7FK-3QX");
    }
}
