//! Property tests of the parsers of files that strangers write, and of the writer of the files that the runtime reads.

mod fuzzed;
mod hostile;
mod ir;
