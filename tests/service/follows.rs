//! The pictures are right: captions through the real service, and what the reader sees in the answers.
//!
//! Everything else holds numbers against numbers. Here a small network that was taught on drawn scenes says what a picture
//! shows; `models/sketchbook/score` holds it to 500 captions, this test to ten of them.

use serde_json::json;

use pixart::compare::{Captioned, Reader, Reading};
use pixart::pipeline::pixels::Rgb8;

use super::binary::Serving;
use crate::support::{decode_png, runtime};

/// Every so many of the unseen captions is drawn.
const STRIDE: usize = 50;

#[tokio::test]
async fn pictures_show_what_their_captions_say() {
    let mut reader = Reader::load(&mut runtime()).unwrap();
    let captions = Captioned::built_in().unwrap();
    let serving = Serving::start(&[]);
    let mut drawn: Vec<(&Captioned, Reading)> = Vec::new();
    for (seed, captioned) in captions.iter().enumerate().step_by(STRIDE) {
        let body = json!({"prompt": captioned.caption, "seed": seed});
        let picture = decode_png(&serving.png(&body).await);
        let picture = Rgb8 {
            width: picture.width.try_into().unwrap(),
            height: picture.height.try_into().unwrap(),
            data: picture.rgb,
        };
        drawn.push((captioned, reader.read(&picture).unwrap()));
    }

    let wrong: Vec<_> = drawn
        .iter()
        .filter(|(captioned, shown)| !captioned.judge(shown).follows())
        .collect();
    assert_eq!(drawn.len(), 10);
    // Of all 500 more than nine in ten follow; of these ten, one may be among the others.
    assert!(wrong.len() <= 1, "{wrong:#?}");

    // The verdict says something: no picture passes for its neighbour's.
    let mistaken = drawn
        .iter()
        .zip(drawn.iter().cycle().skip(1))
        .filter(|((_, shown), (other, _))| other.judge(shown).follows());
    assert_eq!(mistaken.count(), 0);
}
