//! A hub of the project's own: listings, files by range, and every way in which a hub can fail, on threads and plain sockets.
//!
//! What goes wrong is written down per path as a list of tricks; each request takes the next one, and none is left means well.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use pixart::model::hex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(super) const REPOSITORY: &str = "PixArt-alpha/tiny";
pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong with one request.
#[derive(Debug, Clone)]
pub(super) enum Trick {
    /// So many bytes of the body, then the connection is closed.
    Cut(usize),
    /// So many bytes of the body, then nothing until the hub is gone.
    Stall(usize),
    /// Another status, with more headers.
    Status(u16, Vec<(&'static str, String)>),
    /// Elsewhere.
    Redirect(String),
    /// The whole file, whatever range was asked for.
    IgnoreRange,
    /// A range that begins a byte too early.
    OtherRange,
    /// Other bytes of the same length.
    Corrupt,
    /// Fewer bytes, and a header that says so.
    Shorter,
    /// More bytes than listed, without a length.
    Longer,
    /// The body is held back until [`Hub::open_gate`].
    Gate,
    /// Many small pieces.
    Slow(usize, Duration),
    /// Something else altogether.
    Body(Vec<u8>),
}

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) headers: BTreeMap<String, String>,
}

impl Request {
    pub(super) fn range(&self) -> Option<&str> {
        self.headers.get("range").map(String::as_str)
    }

    /// Whether only the beginning of a file is asked for, as before a pull.
    pub(super) fn is_look(&self) -> bool {
        self.range()
            .is_some_and(|range| first_and_last(range).1.is_some())
    }

    pub(super) fn token(&self) -> Option<&str> {
        self.headers.get("authorization").map(String::as_str)
    }
}

#[derive(Default)]
struct State {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Lengths of files that go on with zeros behind what is kept of them.
    hollow: Mutex<BTreeMap<String, u64>>,
    /// Bytes of bodies that went out.
    sent: AtomicU64,
    /// What is listed in place of the truth.
    listed: Mutex<Option<Value>>,
    commit: Mutex<String>,
    tricks: Mutex<BTreeMap<String, VecDeque<Trick>>>,
    /// The same for requests that look at the beginning of a file.
    look_tricks: Mutex<BTreeMap<String, VecDeque<Trick>>>,
    requests: Mutex<Vec<Request>>,
    connections: Mutex<Vec<TcpStream>>,
    gate: Mutex<bool>,
    opened: Condvar,
    gone: AtomicBool,
}

/// A running hub; dropped, it is gone.
pub(super) struct Hub {
    pub(super) address: String,
    state: Arc<State>,
}

impl Hub {
    /// Serves every file below `folder` as [`REPOSITORY`].
    pub(super) fn of(folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        read_below(folder, "", &mut files);
        let state = Arc::new(State {
            files: Mutex::new(files),
            commit: Mutex::new(COMMIT.to_owned()),
            ..State::default()
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.gone.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                shared
                    .connections
                    .lock()
                    .unwrap()
                    .push(stream.try_clone().unwrap());
                let state = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address, state }
    }

    /// What the next requests for a path meet, one each; those that look at the beginning of a file meet none of it.
    pub(super) fn trick(&self, path: &str, tricks: impl IntoIterator<Item = Trick>) {
        let mut all = self.state.tricks.lock().unwrap();
        all.entry(path.to_owned()).or_default().extend(tricks);
    }

    /// What the next requests meet that look at the beginning of the file at a path.
    pub(super) fn trick_looks(&self, path: &str, tricks: impl IntoIterator<Item = Trick>) {
        let mut all = self.state.look_tricks.lock().unwrap();
        all.entry(path.to_owned()).or_default().extend(tricks);
    }

    /// The path of a file.
    pub(super) fn path(file: &str) -> String {
        format!("/{REPOSITORY}/resolve/{COMMIT}/{file}")
    }

    /// The path of the listing of `main`.
    pub(super) fn listing_path() -> String {
        format!("/api/models/{REPOSITORY}/revision/main")
    }

    pub(super) fn put(&self, file: &str, bytes: &[u8]) {
        let mut files = self.state.files.lock().unwrap();
        files.insert(file.to_owned(), bytes.to_owned());
    }

    /// A file of `bytes`: what is given, and zeros behind it.
    pub(super) fn put_hollow(&self, file: &str, begin: &[u8], bytes: u64) {
        self.put(file, begin);
        let mut hollow = self.state.hollow.lock().unwrap();
        hollow.insert(file.to_owned(), bytes);
    }

    /// Bytes of bodies that went out so far.
    pub(super) fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::SeqCst)
    }

    pub(super) fn remove(&self, file: &str) {
        assert!(self.state.files.lock().unwrap().remove(file).is_some());
    }

    pub(super) fn file(&self, file: &str) -> Vec<u8> {
        self.state.files.lock().unwrap()[file].clone()
    }

    pub(super) fn move_to(&self, commit: &str) {
        commit.clone_into(&mut self.state.commit.lock().unwrap());
    }

    /// Changes what is listed, and not what is there.
    pub(super) fn list(&self, change: impl FnOnce(&mut Value)) {
        let mut listing = listing(&self.state);
        change(&mut listing);
        *self.state.listed.lock().unwrap() = Some(listing);
    }

    /// Every request so far.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    /// The requests for a file so far, but for those that look at its beginning.
    pub(super) fn requests_for(&self, file: &str) -> Vec<Request> {
        let path = Self::path(file);
        let mut requests = self.requests();
        requests.retain(|request| request.path == path && !request.is_look());
        requests
    }

    pub(super) fn open_gate(&self) {
        *self.state.gate.lock().unwrap() = true;
        self.state.opened.notify_all();
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.state.gone.store(true, Ordering::SeqCst);
        self.open_gate();
        for connection in self.state.connections.lock().unwrap().iter() {
            let _ = connection.shutdown(Shutdown::Both);
        }
        // Wakes the listener.
        let _ = TcpStream::connect(self.address.trim_start_matches("http://"));
    }
}

fn read_below(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            read_below(&entry.path(), &format!("{name}/"), files);
        } else {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
}

/// As the public hub lists: digests of what lies in large file storage, blob names of the rest.
fn listing(state: &State) -> Value {
    let siblings: Vec<Value> = state
        .files
        .lock()
        .unwrap()
        .iter()
        .map(|(name, bytes)| {
            let digest = hex(&Sha256::digest(bytes));
            let hollow = state.hollow.lock().unwrap().get(name).copied();
            let size = hollow.unwrap_or(bytes.len() as u64);
            let mut sibling =
                json!({"rfilename": name, "size": size, "blobId": digest[..40].to_owned()});
            if Path::new(name)
                .extension()
                .is_some_and(|ending| ending != "json")
            {
                sibling["lfs"] = json!({"sha256": digest, "size": size, "pointerSize": 134});
            }
            sibling
        })
        .collect();
    let commit = state.commit.lock().unwrap().clone();
    json!({"id": REPOSITORY, "sha": commit, "gated": false, "siblings": siblings})
}

/// Answers requests on one connection until it ends.
fn serve(stream: TcpStream, state: &State) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = read_request(&mut reader) {
        state.requests.lock().unwrap().push(request.clone());
        if answer(&request, &stream, state).is_none() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let target = line.split(' ').nth(1)?;
    let path = target.split('?').next()?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Some(Request { path, headers });
        };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
}

/// Answers one request; none ends the connection.
fn answer(request: &Request, stream: &TcpStream, state: &State) -> Option<()> {
    let tricks = if request.is_look() {
        &state.look_tricks
    } else {
        &state.tricks
    };
    let trick = tricks
        .lock()
        .unwrap()
        .get_mut(&request.path)
        .and_then(VecDeque::pop_front);
    let commit = state.commit.lock().unwrap().clone();
    let whole = if request.path == Hub::listing_path() {
        let listed = state.listed.lock().unwrap().clone();
        Some(
            listed
                .unwrap_or_else(|| listing(state))
                .to_string()
                .into_bytes(),
        )
    } else {
        let file = request
            .path
            .strip_prefix(&format!("/{REPOSITORY}/resolve/{commit}/"))
            .or(request.path.strip_prefix("/storage/"));
        file.and_then(|file| state.files.lock().unwrap().get(file).cloned())
    };
    let hollow = request.path.rsplit_once(&format!("/{commit}/"));
    let hollow = hollow.and_then(|(_, file)| state.hollow.lock().unwrap().get(file).copied());
    let mut to = stream;
    match &trick {
        Some(Trick::Status(status, headers)) => {
            return send_head(to, *status, headers, Some(0));
        }
        Some(Trick::Redirect(location)) => {
            return send_head(to, 302, &[("location", location.clone())], Some(0));
        }
        Some(Trick::Body(body)) => {
            send_head(to, 200, &[], Some(body.len()))?;
            return to.write_all(body).ok();
        }
        _ => {}
    }
    let Some(whole) = whole else {
        let code = if request.path.starts_with("/api") {
            "RepoNotFound"
        } else {
            "EntryNotFound"
        };
        return send_head(to, 404, &[("x-error-code", code.to_owned())], Some(0));
    };
    if let Some(bytes) = hollow {
        return send_hollow(request, &whole, (bytes, trick), stream, state);
    }
    send(request, whole, trick, stream, state)
}

/// Sends of a hollow file what is asked for, or all of it, as long as somebody reads.
fn send_hollow(
    request: &Request,
    begin: &[u8],
    (bytes, trick): (u64, Option<Trick>),
    mut to: &TcpStream,
    state: &State,
) -> Option<()> {
    let asked = request
        .range()
        .filter(|_| trick.is_none())
        .map(first_and_last);
    let (first, last) = asked.map_or((0, bytes - 1), |(first, last)| {
        (
            first as u64,
            last.map_or(bytes - 1, |last| bytes.min(last as u64 + 1) - 1),
        )
    });
    let length = usize::try_from(last + 1 - first).unwrap();
    if asked.is_some() {
        let part = vec![("content-range", format!("bytes {first}-{last}/{bytes}"))];
        send_head(to, 206, &part, Some(length))?;
    } else {
        send_head(to, 200, &[], Some(length))?;
    }
    let first = usize::try_from(first).unwrap();
    let front = begin.get(first..).unwrap_or_default();
    let front = &front[..front.len().min(length)];
    to.write_all(front).ok()?;
    state.sent.fetch_add(front.len() as u64, Ordering::SeqCst);
    let mut left = length - front.len();
    while left > 0 {
        let zeros = vec![0; left.min(1 << 16)];
        to.write_all(&zeros).ok()?;
        state.sent.fetch_add(zeros.len() as u64, Ordering::SeqCst);
        left -= zeros.len();
    }
    Some(())
}

/// `bytes=5-9` and `bytes=5-`.
fn first_and_last(range: &str) -> (usize, Option<usize>) {
    let (first, last) = range
        .strip_prefix("bytes=")
        .unwrap()
        .split_once('-')
        .unwrap();
    (first.parse().unwrap(), last.parse().ok())
}

/// Sends a file, or what of it is asked for, with what goes wrong on the way.
fn send(
    request: &Request,
    mut whole: Vec<u8>,
    trick: Option<Trick>,
    mut to: &TcpStream,
    state: &State,
) -> Option<()> {
    let total = whole.len();
    let range = request
        .range()
        .filter(|_| !matches!(trick, Some(Trick::IgnoreRange)));
    let (mut from, last) = range.map_or((0, None), first_and_last);
    if range.is_some() && from >= total {
        let whole = vec![("content-range", format!("bytes */{total}"))];
        return send_head(to, 416, &whole, Some(0));
    }
    if matches!(trick, Some(Trick::OtherRange)) {
        from = from.checked_sub(1).unwrap_or(1);
    }
    match &trick {
        Some(Trick::Corrupt) => whole.iter_mut().for_each(|byte| *byte ^= 1),
        Some(Trick::Shorter) => whole.truncate(total / 2),
        Some(Trick::Longer) => whole.extend([0; 1000]),
        _ => {}
    }
    let end = last.map_or(whole.len(), |last| whole.len().min(last + 1));
    let body = &whole[from.min(end)..end];
    state.sent.fetch_add(body.len() as u64, Ordering::SeqCst);
    let length = (!matches!(trick, Some(Trick::Longer))).then_some(body.len());
    if range.is_some() {
        let last = last.map_or(total, |last| total.min(last + 1)) - 1;
        let part = vec![("content-range", format!("bytes {from}-{last}/{total}"))];
        send_head(to, 206, &part, length)?;
    } else {
        send_head(to, 200, &[], length)?;
    }
    match trick {
        Some(Trick::Cut(bytes)) => {
            to.write_all(&body[..bytes.min(body.len())]).ok()?;
            return None;
        }
        Some(Trick::Stall(bytes)) => {
            to.write_all(&body[..bytes.min(body.len())]).ok()?;
            wait_for_gate(state);
            return None;
        }
        Some(Trick::Gate) => {
            wait_for_gate(state);
            to.write_all(body).ok()?;
        }
        Some(Trick::Slow(piece, pause)) => {
            for piece in body.chunks(piece) {
                to.write_all(piece).ok()?;
                thread::sleep(pause);
            }
        }
        _ => to.write_all(body).ok()?,
    }
    // Without a length the end of the connection is the end of the body.
    length.map(drop)
}

fn wait_for_gate(state: &State) {
    let mut open = state.gate.lock().unwrap();
    while !*open {
        open = state.opened.wait(open).unwrap();
    }
}

fn send_head(
    mut to: &TcpStream,
    status: u16,
    headers: &[(&'static str, String)],
    length: Option<usize>,
) -> Option<()> {
    let mut head = format!("HTTP/1.1 {status} x\r\n");
    for (name, value) in headers {
        head.extend([*name, ": ", value, "\r\n"]);
    }
    let last = length.map_or("connection: close".to_owned(), |length| {
        format!("content-length: {length}")
    });
    head.extend([&last, "\r\n\r\n"]);
    to.write_all(head.as_bytes()).ok()
}
