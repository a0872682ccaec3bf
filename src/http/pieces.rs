//! Bodies that hold images in base64 without holding the base64: text, and images that are encoded when the reader takes them;
//! and what is to be done when a body has been sent.
//!
//! An image is kept once, by its job. However many readers are sent it, and however slowly they read, each holds the one
//! chunk that it is being sent: a hundred readers that read nothing cost a few MiB and not a hundred times all images.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::body::{Frame, SizeHint};
use serde_json::Value;

use crate::domain::Generated;
use crate::jobs::Preview;

/// Bytes of an image that are encoded at a time: whole groups of three, so that the chunks are one text.
const CHUNK_BYTES: usize = 12 << 10;
/// The key of an image in base64.
pub(super) const BASE64_KEY: &str = "b64_json";

/// An image's file, shared with the job that keeps it.
pub(super) type File = Bytes;

/// The file of a finished image.
pub(super) fn file(image: &Arc<Generated>) -> File {
    struct Shared(Arc<Generated>);
    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            &self.0.image
        }
    }
    Bytes::from_owner(Shared(Arc::clone(image)))
}

/// The file of a preview.
pub(super) fn preview_file(preview: &Arc<Preview>) -> File {
    struct Shared(Arc<Preview>);
    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            &self.0.image
        }
    }
    Bytes::from_owner(Shared(Arc::clone(preview)))
}

/// The value of `b64_json` until its image is put there by [`Pieces::json`].
pub(super) fn hole() -> Value {
    Value::String(String::new())
}

#[derive(Debug)]
enum Piece {
    /// As it is.
    Plain(Bytes),
    Base64(File),
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::Plain(bytes) => bytes.len() as u64,
            Self::Base64(file) => file.len().div_ceil(3) as u64 * 4,
        }
    }
}

/// A text with images in it, or an image alone.
#[derive(Default)]
pub(super) struct Pieces {
    pieces: VecDeque<Piece>,
    when_sent: Option<Box<dyn FnOnce() + Send>>,
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.pieces).finish()
    }
}

impl Pieces {
    /// Text alone.
    pub(super) fn text(text: String) -> Self {
        let mut pieces = Self::default();
        pieces.push(text);
        pieces
    }

    /// An image's file as it is.
    pub(super) fn plain(file: File) -> Self {
        let mut pieces = Self::default();
        pieces.pieces.push_back(Piece::Plain(file));
        pieces
    }

    /// The same, and `act` when its last bytes have been taken to be sent; never where it is dropped before.
    #[must_use]
    pub(super) fn when_sent(mut self, act: impl FnOnce() + Send + 'static) -> Self {
        self.when_sent = Some(Box::new(act));
        self
    }

    /// JSON whose holes are filled with `files` in the order in which they stand.
    pub(super) fn json(json: &Value, files: impl IntoIterator<Item = File>) -> Self {
        // Within a string of JSON its quotation marks would be escaped: this is a key and its empty value.
        let hole = format!("\"{BASE64_KEY}\":\"\"");
        let text = json.to_string();
        let mut files = files.into_iter();
        let mut pieces = Self::default();
        let mut rest = text.as_str();
        while let Some(at) = rest.find(&hole)
            && let Some(file) = files.next()
        {
            let (before, after) = rest.split_at(at + hole.len() - 1);
            pieces.push(before.to_owned());
            pieces.pieces.push_back(Piece::Base64(file));
            rest = after;
        }
        pieces.push(rest.to_owned());
        pieces
    }

    fn push(&mut self, text: String) {
        if !text.is_empty() {
            self.pieces.push_back(Piece::Plain(text.into()));
        }
    }

    /// The same between two texts.
    #[must_use]
    pub(super) fn between(mut self, before: String, after: &'static str) -> Self {
        self.pieces.push_front(Piece::Plain(before.into()));
        self.push(after.to_owned());
        self
    }

    /// The next bytes to send.
    pub(super) fn next_chunk(&mut self) -> Option<Bytes> {
        let chunk = match self.pieces.front_mut()? {
            Piece::Base64(file) if file.len() > CHUNK_BYTES => {
                let chunk = file.split_to(CHUNK_BYTES);
                Some(BASE64.encode(chunk).into())
            }
            Piece::Plain(bytes) if bytes.len() > CHUNK_BYTES => Some(bytes.split_to(CHUNK_BYTES)),
            _ => self.pieces.pop_front().map(|piece| match piece {
                Piece::Plain(bytes) => bytes,
                Piece::Base64(file) => BASE64.encode(file).into(),
            }),
        };
        if self.pieces.is_empty()
            && let Some(act) = self.when_sent.take()
        {
            act();
        }
        chunk
    }

    fn len(&self) -> u64 {
        self.pieces.iter().map(Piece::len).sum()
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next_chunk().map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sent(mut pieces: Pieces) -> (String, usize) {
        let length = pieces.len();
        let mut text = Vec::new();
        let mut longest = 0;
        while let Some(chunk) = pieces.next_chunk() {
            longest = longest.max(chunk.len());
            text.extend_from_slice(&chunk);
        }
        assert_eq!(text.len() as u64, length, "what was announced");
        (String::from_utf8(text).unwrap(), longest)
    }

    #[test]
    fn images_are_put_into_their_holes_in_order_and_nowhere_else() {
        for lengths in [
            [0, 1],
            [2, 3],
            [CHUNK_BYTES, CHUNK_BYTES + 1],
            [40_000, 99_999],
        ] {
            let files: Vec<File> = lengths
                .iter()
                .map(|&length| (0..=250).cycle().take(length).collect())
                .collect();
            let data: Vec<Value> = files
                .iter()
                .map(|_| json!({BASE64_KEY: hole(), "seed": 1}))
                .collect();
            let json = json!({"data": data, "name": "\"b64_json\":\"\"", "b64": ""});
            let (text, longest) = sent(Pieces::json(&json, files.clone()));
            assert!(longest <= CHUNK_BYTES / 3 * 4 + 2, "{longest}");
            let read: Value = serde_json::from_str(&text).unwrap();
            for (file, entry) in files.iter().zip(read["data"].as_array().unwrap()) {
                assert_eq!(entry["b64_json"], BASE64.encode(file));
                assert_eq!(entry["seed"], 1);
            }
            assert_eq!(read["name"], "\"b64_json\":\"\"");
        }
    }

    #[test]
    fn a_reader_holds_a_share_of_the_image_and_no_copy() {
        let image: File = vec![7; 4 << 20].into();
        let address = image.as_ptr();
        let json = json!({BASE64_KEY: hole()});
        let readers: Vec<Pieces> = (0..100)
            .map(|_| Pieces::json(&json, [image.clone()]))
            .collect();
        for reader in &readers {
            let held: Vec<_> = reader
                .pieces
                .iter()
                .filter_map(|piece| match piece {
                    Piece::Base64(file) => Some(file.as_ptr()),
                    Piece::Plain(text) => {
                        assert!(text.len() < 100);
                        None
                    }
                })
                .collect();
            assert_eq!(held, [address]);
        }
    }
}
