//! A repository looked at before anything large is fetched: its listing, its small files, and of its weights the headers.
//!
//! A safetensors file begins with the length of its header and the header, which names every tensor with type and shape. So one
//! request for the first part of each file is enough, and a second one where the header is longer. A hub that answers with the
//! whole file is read as far as the header goes, and no further.
//!
//! What is fetched later is of the same commit, and each file has to begin with the header that was seen here.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::hub::{Hub, content_range, header, stalled};
use super::patience::Setback;
use super::progress::Together;
use super::selection::Item;
use super::{
    MAX_DOCUMENT_BYTES, Progress, PullError, PullOptions, choose, document, list, side_by_side,
    with_hub,
};
use crate::files;

use crate::model::{Disguise, FIRST_BYTES as DISGUISE_BYTES};

/// What is asked for of each file of weights first: the headers of the published checkpoints are 20 to 90 kB long.
const FIRST_BYTES: u64 = 128 << 10;
/// Bytes in front of a header, which give its length.
const LENGTH_BYTES: u64 = size_of::<u64>() as u64;

/// What a repository is, as far as it can be known without its weights.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// Name and revision.
    pub repository: String,
    /// The commit that the revision stands for.
    pub commit: String,
    /// The small files, by their names in the diffusers directory.
    pub documents: BTreeMap<String, Vec<u8>>,
    /// Every file of weights, in the order of the components.
    pub weights: Vec<WeightsHeader>,
    /// Length of all files that a pull takes, those of unknown length by their headers.
    pub total_bytes: u64,
    /// How many files that are.
    pub files: usize,
    /// Bytes that came for this.
    pub traffic_bytes: u64,
    pub(super) items: Vec<Item>,
}

/// The header of one file of weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsHeader {
    /// The file's name in the diffusers directory.
    pub name: String,
    /// The header: JSON.
    pub json: Vec<u8>,
    /// Length of the whole file, where the hub gives it.
    pub file_bytes: Option<u64>,
}

impl WeightsHeader {
    /// Whether it belongs to `component`; a file at the top belongs to none.
    pub fn is_of(&self, component: &str) -> bool {
        self.name
            .strip_prefix(component)
            .is_some_and(|rest| rest.starts_with('/'))
    }

    /// Digest of the length and the header, as they stand in the file.
    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update((self.json.len() as u64).to_le_bytes());
        digest.update(&self.json);
        digest.finalize().into()
    }

    /// Length of the file that the header describes: nothing where it is no header.
    fn described_bytes(&self) -> Option<u64> {
        let header: safetensors::tensor::Metadata = serde_json::from_slice(&self.json).ok()?;
        Some(LENGTH_BYTES + self.json.len() as u64 + header.data_len() as u64)
    }
}

/// Looks at the repository. Nothing is written, and nothing large is fetched.
///
/// # Errors
/// When the hub or the repository cannot be used, a header is none, or the caller asked to stop.
pub fn inspect(options: &PullOptions, progress: &dyn Progress) -> Result<Inspection, PullError> {
    with_hub(options, progress, |hub, together| {
        look(hub, options.repository.revision(), together)
    })
}

/// What came of one file.
enum Seen {
    Document(String, Vec<u8>),
    Header(WeightsHeader),
}

fn look(hub: &Hub, revision: &str, together: &Together<'_>) -> Result<Inspection, PullError> {
    let listing = list(hub, revision, together)?;
    let mut read: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut items = choose(hub, &listing, together, &mut |name, bytes| {
        read.insert(name.to_owned(), bytes.to_owned());
    })?;

    let seen = Mutex::new(Vec::new());
    side_by_side(items.clone(), together, |item: &Item| {
        let here = if item.holds_tensors() {
            Seen::Header(first_part(hub, &listing.commit, item, together)?)
        } else {
            let bytes = match read.get(&item.remote) {
                Some(bytes) => bytes.clone(),
                None => document(hub, &listing.commit, &item.remote, together)?,
            };
            Seen::Document(item.local.clone(), bytes)
        };
        seen.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(here);
        Ok(())
    })?;

    let mut documents = BTreeMap::new();
    let mut headers = BTreeMap::new();
    for seen in seen.into_inner().unwrap_or_else(PoisonError::into_inner) {
        match seen {
            Seen::Document(name, bytes) => {
                documents.insert(name, bytes);
            }
            Seen::Header(header) => {
                headers.insert(header.name.clone(), header);
            }
        }
    }
    let mut weights = Vec::new();
    for item in &mut items {
        if let Some(mut header) = headers.remove(&item.local) {
            item.header = Some((LENGTH_BYTES + header.json.len() as u64, header.digest()));
            item.listed.bytes = item
                .listed
                .bytes
                .or(header.file_bytes)
                .or(header.described_bytes());
            header.file_bytes = item.listed.bytes;
            weights.push(header);
        } else if let Some(document) = documents.get(&item.local) {
            item.listed.bytes = item.listed.bytes.or(Some(document.len() as u64));
        }
    }
    Ok(Inspection {
        repository: hub.repository(),
        commit: listing.commit,
        total_bytes: items.iter().filter_map(|item| item.listed.bytes).sum(),
        files: items.len(),
        traffic_bytes: hub.received_bytes(),
        documents,
        weights,
        items,
    })
}

/// The header of a file of weights: out of the hub's cache where that has the file.
fn first_part(
    hub: &Hub,
    commit: &str,
    item: &Item,
    together: &Together<'_>,
) -> Result<WeightsHeader, PullError> {
    let header = |json, file_bytes| WeightsHeader {
        name: item.local.clone(),
        json,
        file_bytes,
    };
    if let Some(path) = hub.here.file(commit, item)? {
        let read = || -> Result<_, Trouble> {
            let mut file = files::open(&path)?;
            let bytes = file.metadata()?.len();
            Ok((read_header(&mut file, Some(bytes), u64::MAX)?, bytes))
        };
        return match read() {
            Ok((Part::Whole(json), bytes)) => Ok(header(json, Some(bytes))),
            Ok((Part::Longer(_), _)) => Err(bad(hub, item, "its header has no end".to_owned())),
            Err(Trouble::Bad(detail)) => Err(bad(hub, item, detail)),
            Err(Trouble::Read(error)) => {
                Err(bad(hub, item, format!("{}: {error}", path.display())))
            }
        };
    }
    let mut asked = FIRST_BYTES;
    loop {
        let (part, file_bytes) = hub
            .patience
            .persist(&item.remote, together, || attempt(hub, commit, item, asked))?;
        match part {
            Part::Whole(json) => return Ok(header(json, file_bytes)),
            Part::Longer(bytes) => asked = bytes,
        }
    }
}

fn bad(hub: &Hub, item: &Item, detail: String) -> PullError {
    PullError::BadHeader {
        repository: hub.repository(),
        file: item.remote.clone(),
        detail,
    }
}

/// One request for the first bytes of a file. Returns what they hold, and how long the whole file is.
fn attempt(
    hub: &Hub,
    commit: &str,
    item: &Item,
    asked: u64,
) -> Result<(Part, Option<u64>), Setback> {
    let url = hub.file_url(commit, &item.remote);
    let mut answer = hub.get_first(&url, &item.remote, asked)?;
    // An answer with all of the file is read from its front, as far as is needed.
    let (file_bytes, there) = match answer.status().as_u16() {
        200 => (answer.body().content_length(), u64::MAX),
        206 => match header(&answer, "content-range").and_then(content_range) {
            Some((0, total)) => (total, asked),
            _ => return Err(Setback::again("another range came than was asked for")),
        },
        _ => return Err(bad(hub, item, "it is empty".to_owned()).into()),
    };
    if let (Some(expected), Some(got)) = (item.listed.bytes, file_bytes)
        && expected != got
    {
        let file = item.remote.clone();
        return Err(PullError::Length {
            file,
            expected,
            got,
        }
        .into());
    }
    let file_bytes = file_bytes.or(item.listed.bytes);
    let part = read_header(&mut answer.body_mut().as_reader(), file_bytes, there);
    hub.count(asked.min(file_bytes.unwrap_or(asked)));
    match part {
        Ok(part) => Ok((part, file_bytes)),
        Err(Trouble::Bad(detail)) => Err(bad(hub, item, detail).into()),
        Err(Trouble::Read(error)) if error.kind() == io::ErrorKind::TimedOut => {
            Err(Setback::again(stalled(hub.patience.stall)))
        }
        Err(Trouble::Read(error)) => Err(Setback::again(format!("{}: {error}", hub.host()))),
    }
}

/// What the first bytes of a file hold.
enum Part {
    /// The header's JSON.
    Whole(Vec<u8>),
    /// Only a part of the header, which with its length is so many bytes long.
    Longer(u64),
}

/// Why there is no header.
enum Trouble {
    /// The file has none.
    Bad(String),
    /// It cannot be read.
    Read(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// Reads a header from the front of a file of `file_bytes`, of which the first `there` can be read.
fn read_header(front: &mut dyn Read, file_bytes: Option<u64>, there: u64) -> Result<Part, Trouble> {
    if file_bytes.is_some_and(|bytes| bytes < LENGTH_BYTES) {
        return Err(Trouble::Bad("it is shorter than 8 bytes".to_owned()));
    }
    let mut length = [0; size_of::<u64>()];
    front.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    // A header is JSON, of which no such length is the beginning.
    if length > MAX_DOCUMENT_BYTES {
        let mut first = length.to_le_bytes().to_vec();
        front.take(DISGUISE_BYTES as u64).read_to_end(&mut first)?;
        if let Some(disguise) = Disguise::of(&first) {
            return Err(Trouble::Bad(format!("it is {}", disguise.what())));
        }
    }
    let end = length.saturating_add(LENGTH_BYTES);
    if let Some(bytes) = file_bytes.filter(|&bytes| end > bytes) {
        return Err(Trouble::Bad(format!(
            "its header claims {length} bytes in a file of {bytes}"
        )));
    }
    if length > MAX_DOCUMENT_BYTES {
        return Err(Trouble::Bad(format!(
            "its header claims {length} bytes, more than the {MAX_DOCUMENT_BYTES} that are read"
        )));
    }
    if end > there {
        return Ok(Part::Longer(end));
    }
    let mut json = Vec::new();
    front.take(length).read_to_end(&mut json)?;
    if (json.len() as u64) < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(Part::Whole(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(file: &[u8], file_bytes: Option<u64>, there: u64) -> Result<Part, Trouble> {
        read_header(&mut &file[..], file_bytes, there)
    }

    #[test]
    fn a_header_is_read_as_far_as_it_goes_and_no_further() {
        let file = [&3_u64.to_le_bytes()[..], b"{ }rest"].concat();
        for there in [11, u64::MAX] {
            let Ok(Part::Whole(json)) = part(&file, Some(15), there) else {
                panic!("no header of the first {there}");
            };
            assert_eq!(json, b"{ }");
        }
        assert!(matches!(part(&file, None, 10), Ok(Part::Longer(11))));
        assert!(matches!(
            part(&file[..9], None, u64::MAX),
            Err(Trouble::Read(_))
        ));
    }

    #[test]
    fn a_header_that_lies_about_its_length_is_bad_before_it_is_read() {
        for (length, file_bytes) in [
            (4, Some(11)),
            (u64::MAX, Some(11)),
            (u64::MAX, None),
            (MAX_DOCUMENT_BYTES + 1, None),
        ] {
            let file = [&length.to_le_bytes()[..], b"{ }"].concat();
            let found = part(&file, file_bytes, u64::MAX);
            assert!(
                matches!(found, Err(Trouble::Bad(_))),
                "{length} {file_bytes:?}"
            );
        }
        assert!(matches!(part(b"abc", Some(3), 3), Err(Trouble::Bad(_))));
        let page = b"<!DOCTYPE html><title>403</title>";
        let Err(Trouble::Bad(detail)) = part(page, Some(33), 33) else {
            panic!("a page is no header");
        };
        assert!(detail.contains("a page of a site"), "{detail}");
    }
}
