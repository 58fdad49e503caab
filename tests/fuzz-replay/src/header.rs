//! What root and its peers read before, and around, what is signed.

use olb_exec_api::{
    ClientFrame, Decided, FRAME_HEADER_BYTES, Query, RecordPage, Recorded, Refusal, RequestState,
    decode_info, encode_info, reply, request, split_reply, split_request,
};

/// Bytes as a datagram of exec.sock in both directions, as each body in it, and as frames to a
/// client. Accepted means: it encodes to the same bytes.
///
/// # Panics
/// It does not.
pub fn root_header(data: &[u8]) {
    if let Ok((op, a, b)) = split_request(data) {
        assert_eq!(request(op, a, b).as_deref(), Ok(data));
        query(a);
    }
    if let Ok((status, a, b)) = split_reply(data) {
        assert_eq!(reply(status, a, b).as_deref(), Ok(data));
        bodies(a);
    }
    query(data);
    bodies(data);
    frames(data);
}

fn query(data: &[u8]) {
    if let Some(query) = Query::decode(data) {
        assert_eq!(query.encode(), data);
    }
}

fn bodies(data: &[u8]) {
    let one = |again: Option<Vec<u8>>| {
        if let Some(again) = again {
            assert_eq!(again, data, "another encoding of a body was accepted");
            crate::judge::others_agree(data);
        }
    };
    one(Refusal::decode(data).ok().map(|refusal| refusal.encode()));
    one(Recorded::decode(data).ok().map(|recorded| recorded.encode()));
    one(Decided::decode(data).ok().map(|decided| decided.encode()));
    one(RecordPage::decode(data).ok().map(|page| page.encode()));
    one(RequestState::decode(data).ok().map(|state| state.encode()));
    one(decode_info(data).ok().map(|info| encode_info(&info)));
}

fn frames(mut data: &[u8]) {
    while let Some((header, rest)) = data.split_first_chunk::<FRAME_HEADER_BYTES>() {
        let Ok(read) = ClientFrame::header(*header) else { return };
        let Some(payload) = rest.get(..read.length) else { return };
        if let Ok(frame) = ClientFrame::decode(read, payload) {
            assert_eq!(frame.encode(), [header, payload].concat());
        }
        data = &rest[read.length..];
    }
}
