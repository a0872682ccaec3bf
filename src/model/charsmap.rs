//! The `precompiled_charsmap` of a sentencepiece normaliser, checked before anything walks it.
//!
//! Layout: u32 LE byte length of a trie, the trie (u32 LE units of a darts-clone double array), then replacement texts in UTF-8, each
//! ended by NUL. The `tokenizers` crate indexes it without bounds checks of its own, so a damaged or hostile map would panic there, or
//! grow a prompt without bound. This file proves once that no walk can leave the array. It does not normalise.
//! Source: sentencepiece 0.2.1 `normalizer.cc` (`DecodePrecompiledCharsMap`), darts-clone `DoubleArrayUnit`, spm_precompiled 0.1.4.

use thiserror::Error;

/// Bytes of a charsmap whose trie and texts are sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charsmap(Vec<u8>);

/// Why a charsmap cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CharsmapError {
    /// Fewer bytes than the length field claims, or a length that is not whole units.
    #[error(
        "character map is cut short: its trie takes {trie_bytes} bytes and {available} are there"
    )]
    Truncated {
        /// Length field.
        trie_bytes: usize,
        /// Bytes behind it.
        available: usize,
    },
    /// The replacement texts are not UTF-8.
    #[error("character map has replacement texts that are not UTF-8")]
    NotUtf8,
    /// A trie unit that leads outside the trie.
    #[error("character map leads outside its trie at unit {unit}")]
    OutsideTrie {
        /// Index of the unit.
        unit: usize,
    },
    /// A trie value that points outside the texts or into the middle of a character.
    #[error("character map points at no replacement text at unit {unit}")]
    OutsideTexts {
        /// Index of the unit.
        unit: usize,
    },
    /// One replacement text is absurdly long.
    #[error("character map has a replacement text above {limit} bytes")]
    TextTooLong {
        /// The limit.
        limit: usize,
    },
}

impl Charsmap {
    /// The longest replacement in Unicode's own NFKC is 33 bytes (U+FDFA).
    pub const MAX_TEXT_BYTES: usize = 256;

    /// Checks every unit that a lookup could reach.
    ///
    /// # Errors
    /// When a lookup could leave the trie or the texts, or a text is too long.
    pub fn parse(bytes: &[u8]) -> Result<Self, CharsmapError> {
        let (length, body) = bytes.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
        let trie_bytes = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let truncated = CharsmapError::Truncated {
            trie_bytes,
            available: body.len(),
        };
        if trie_bytes == 0 || !trie_bytes.is_multiple_of(4) {
            return Err(truncated);
        }
        let (trie, texts) = body.split_at_checked(trie_bytes).ok_or(truncated)?;
        let texts = std::str::from_utf8(texts).map_err(|_| CharsmapError::NotUtf8)?;
        if texts
            .split('\0')
            .any(|text| text.len() > Self::MAX_TEXT_BYTES)
        {
            return Err(CharsmapError::TextTooLong {
                limit: Self::MAX_TEXT_BYTES,
            });
        }
        let units: Vec<Unit> = trie
            .chunks_exact(4)
            .map(|unit| Unit(u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]])))
            .collect();
        for (index, unit) in units.iter().enumerate() {
            // A value unit carries bit 31, which no label byte equals: a walk reads it but never goes on from it. The root is where every walk begins.
            if unit.is_value() && index != 0 {
                continue;
            }
            let children = index ^ unit.offset();
            // A child is at `children ^ byte`, anywhere in its block of 256.
            if children | 0xFF >= units.len() {
                return Err(CharsmapError::OutsideTrie { unit: index });
            }
            if unit.has_leaf() && !texts.is_char_boundary(units[children].value()) {
                return Err(CharsmapError::OutsideTexts { unit: index });
            }
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The bytes, as they were.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// One unit of the double array, with darts-clone's bit layout.
#[derive(Clone, Copy)]
struct Unit(u32);

impl Unit {
    fn is_value(self) -> bool {
        self.0 >> 31 == 1
    }

    fn has_leaf(self) -> bool {
        (self.0 >> 8) & 1 == 1
    }

    fn value(self) -> usize {
        (self.0 & 0x7FFF_FFFF) as usize
    }

    fn offset(self) -> usize {
        // As spm_precompiled computes it, on 64 bits: the shift never drops a bit there.
        (self.0 as usize >> 10) << ((self.0 & (1 << 9)) >> 6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The byte `a`.
    const LABEL: u32 = 0x61;

    fn map(units: &[u32], texts: &str) -> Vec<u8> {
        let trie: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let mut bytes = u32::try_from(trie.len()).unwrap().to_le_bytes().to_vec();
        bytes.extend(trie);
        bytes.extend(texts.as_bytes());
        bytes
    }

    #[test]
    fn a_map_that_replaces_nothing_is_sound() {
        assert!(Charsmap::parse(&map(&[0; 256], "")).is_ok());
    }

    #[test]
    fn an_empty_or_short_map_is_refused() {
        for bytes in [
            &[][..],
            &[0; 4],
            &[255, 255, 255, 255],
            &[8, 0, 0, 0, 1, 2, 3, 4],
            &[5; 12],
        ] {
            assert!(
                matches!(Charsmap::parse(bytes), Err(CharsmapError::Truncated { .. })),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn a_unit_that_leads_outside_is_refused() {
        let mut units = [0; 256];
        units[0x61] = LABEL | (0x100 << 10);
        assert_eq!(
            Charsmap::parse(&map(&units, "")),
            Err(CharsmapError::OutsideTrie { unit: 97 })
        );
    }

    #[test]
    fn a_value_inside_a_character_is_refused() {
        let mut units = [0; 512];
        units[0x61] = LABEL | (1 << 8) | (0x100 << 10);
        units[0x61 ^ 0x100] = (1 << 31) | 1;
        assert_eq!(
            Charsmap::parse(&map(&units, "é\0")),
            Err(CharsmapError::OutsideTexts { unit: 97 })
        );
        units[0x61 ^ 0x100] = 1 << 31;
        assert!(Charsmap::parse(&map(&units, "é\0")).is_ok());
    }

    #[test]
    fn a_replacement_that_would_swell_a_prompt_is_refused() {
        assert_eq!(
            Charsmap::parse(&map(&[0; 256], &"x".repeat(257))),
            Err(CharsmapError::TextTooLong { limit: 256 })
        );
    }
}
