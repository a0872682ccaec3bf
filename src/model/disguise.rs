//! Files that stand in the place of what was asked for: pointers of Git LFS, pages of a site, pickles under another name.
//!
//! They come from a clone without Git LFS, a download without a token, a renamed file. A parser's complaint about their content helps
//! nobody; what they are says what to do.

/// How a pointer begins (git-lfs 3, docs/spec.md).
const LFS_POINTER: &[u8] = b"version https://git-lfs";
/// How much of a file is looked at.
pub(crate) const FIRST_BYTES: usize = 512;

/// What a file is that begins with `first` and should be something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disguise {
    /// The text that stands for a large file in a checkout without Git LFS.
    LfsPointer,
    /// A page of a site.
    WebPage,
    /// What PyTorch writes.
    Pickle,
    /// What llama.cpp reads.
    Gguf,
}

impl Disguise {
    /// By a file's first bytes; nothing where they are none of these.
    pub fn of(first: &[u8]) -> Option<Self> {
        let text = first.trim_ascii_start();
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let begins = |with: &str| {
            text.get(..with.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(with.as_bytes()))
        };
        if first.starts_with(LFS_POINTER) {
            Some(Self::LfsPointer)
        } else if ["<!doctype", "<html", "<head", "<?xml"]
            .into_iter()
            .any(begins)
        {
            Some(Self::WebPage)
        } else if first.starts_with(b"PK\x03\x04") || first.starts_with(b"\x80\x02") {
            Some(Self::Pickle)
        } else if first.starts_with(b"GGUF") {
            Some(Self::Gguf)
        } else {
            None
        }
    }

    /// What it is.
    pub fn what(self) -> &'static str {
        match self {
            Self::LfsPointer => "a Git LFS pointer and not the file itself",
            Self::WebPage => "a page of a site and not the file itself",
            Self::Pickle => "a pickle of PyTorch under another name",
            Self::Gguf => "a GGUF file under another name",
        }
    }

    /// What gets the file itself to this machine.
    pub fn advice(self) -> &'static str {
        match self {
            Self::LfsPointer => {
                "run `git lfs pull` in its repository, or fetch it with 'pixart pull'"
            }
            Self::WebPage => {
                "download the file again, with a token where the site asks who you are ('pixart pull' takes HF_TOKEN)"
            }
            Self::Pickle | Self::Gguf => "get the safetensors file of this checkpoint instead",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_first_bytes() {
        for (first, expected) in [
            (
                &b"version https://git-lfs.github.com/spec/v1\noid"[..],
                Some(Disguise::LfsPointer),
            ),
            (b"\n <!DOCTYPE html><title>403", Some(Disguise::WebPage)),
            (b"<html>", Some(Disguise::WebPage)),
            (b"PK\x03\x04archive/data.pkl", Some(Disguise::Pickle)),
            (b"GGUF\x03", Some(Disguise::Gguf)),
            (b"{\"a\": 1}", None),
            (b"\x10\0\0\0\0\0\0\0{", None),
            (b"", None),
        ] {
            assert_eq!(Disguise::of(first), expected);
        }
    }
}
