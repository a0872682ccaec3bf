//! Parsers of files that strangers write.
