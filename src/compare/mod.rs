//! What `pixart compare` tells of two models: how large they are, how far their pictures differ, how well they follow captions, how
//! long they take.
//!
//! The first model is what the second is held against. What it is not: it loads no model and draws nothing, which `app` and
//! `cli` do; times are those of `bench`. Ratios are above 1 where the second model is the better one: smaller, faster.

mod difference;
mod error;
mod page;
mod report;
mod score;
mod sheet;
mod table;

pub use difference::{cosine, psnr, ssim};
pub use error::CompareError;
pub use page::page;
pub use report::{
    ComponentSizes, ModelReport, Pair, PictureReport, QualityFigures, Report, SCHEMA, sizes,
};
pub use score::{Captioned, Reader, Reading, Score, ScoreError, Share, Subject, Verdict};
pub use sheet::side_by_side;
pub use table::table;
