//! A reader of server-sent events.

use reqwest::RequestBuilder;
use serde_json::Value;

use super::within;

/// One event, or a comment, whose name is ":".
#[derive(Debug)]
pub(super) struct Told {
    pub(super) name: String,
    pub(super) data: Value,
}

/// A stream of events that is being read.
pub(super) struct Events {
    response: reqwest::Response,
    unread: String,
}

impl Events {
    /// Sends a request that is answered by events.
    pub(super) async fn of(request: RequestBuilder) -> Self {
        let response = within(request.send()).await.unwrap();
        assert_eq!(response.status(), 200);
        let media_type = &response.headers()["content-type"];
        assert!(
            media_type
                .to_str()
                .unwrap()
                .starts_with("text/event-stream")
        );
        assert!(response.headers().contains_key("x-request-id"));
        Self {
            response,
            unread: String::new(),
        }
    }

    /// The next event or comment; none at the end of the stream.
    pub(super) async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some(end) = self.unread.find("\n\n") {
                let told = read(&self.unread[..end]);
                self.unread.drain(..end + 2);
                return Some(told);
            }
            let Some(chunk) = within(self.response.chunk()).await.unwrap() else {
                assert_eq!(self.unread, "", "the last event is whole");
                return None;
            };
            self.unread.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next event, which must be called so. Comments in between are read over, and so are places in the queue before
    /// the start: whether there is one depends on how soon the worker comes.
    pub(super) async fn expect(&mut self, name: &str) -> Value {
        loop {
            let told = self.next().await.expect("the stream goes on");
            let is_place = told.name == "queued" && name == "started";
            if told.name != ":" && !is_place {
                assert_eq!(told.name, name, "{}", told.data);
                return told.data;
            }
        }
    }

    /// All that is left.
    pub(super) async fn rest(mut self) -> Vec<Told> {
        let mut all = Vec::new();
        while let Some(told) = self.next().await {
            all.push(told);
        }
        all
    }
}

fn read(block: &str) -> Told {
    if let Some(comment) = block.strip_prefix(':') {
        assert!(!comment.contains('\n'), "{block}");
        return Told {
            name: ":".to_owned(),
            data: comment.trim().into(),
        };
    }
    let (event, data) = block.split_once('\n').unwrap();
    Told {
        name: event.strip_prefix("event: ").unwrap().to_owned(),
        data: serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap(),
    }
}

/// Names of events in their order, comments left out.
pub(super) fn names(told: &[Told]) -> Vec<&str> {
    told.iter()
        .map(|told| told.name.as_str())
        .filter(|&name| name != ":")
        .collect()
}
