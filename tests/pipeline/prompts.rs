//! When the text encoder runs, and when what it computed before is taken.

use std::cell::Cell;
use std::rc::Rc;

use pixart::domain::{GenerateRequest, Generated, Guidance, Prompt, PromptCache};
use pixart::engine::{Graph, Tensor};
use pixart::pipeline::{Event, Generate as _, Networks, Pipeline, Watch};

use super::{facts, full, good, pipeline, request, text_shape};
use crate::support::fake_graph::{FakeGraph, ShapeOf};

/// A pipeline whose text encoder answers with `answer` and counts its calls.
fn counted(answer: fn(usize, ShapeOf<'_>) -> Tensor) -> (Pipeline, Rc<Cell<usize>>) {
    let calls = Rc::new(Cell::new(0));
    let count = Rc::clone(&calls);
    let text_encoder: Box<dyn Graph> = FakeGraph::boxed(move |call, shape_of| {
        count.set(count.get() + 1);
        answer(call, shape_of)
    });
    let networks = Networks {
        text_encoder,
        ..good()
    };
    (pipeline(networks, facts()), calls)
}

/// The embeddings that a picture was drawn with, first of the prompt.
#[derive(Default)]
struct Embeddings(Vec<Vec<f32>>);

impl Watch for Embeddings {
    fn cancelled(&self) -> bool {
        false
    }

    fn observe(&mut self, event: Event<'_>) {
        if let Event::TextEncoded { prompt, negative } = event {
            self.0.push(prompt.iter().copied().collect());
            if let Some(negative) = negative {
                self.0.push(negative.iter().copied().collect());
            }
        }
    }
}

fn draw(pipeline: &mut Pipeline, request: &GenerateRequest) -> (Generated, Embeddings) {
    let mut embeddings = Embeddings::default();
    let picture = pipeline.generate(request, &mut embeddings).unwrap();
    (picture, embeddings)
}

fn cache(hits: u32, misses: u32) -> PromptCache {
    PromptCache {
        hits,
        misses,
        from_disk: 0,
    }
}

#[test]
fn a_repeated_prompt_skips_the_text_encoder_and_is_observed_all_the_same() {
    let (mut pipeline, calls) =
        counted(|call, shape_of| full(text_shape(shape_of), 0.5 + call as f32));
    let (first, embeddings) = draw(&mut pipeline, &request());
    assert_eq!(first.timings.prompt_cache, cache(0, 2));
    assert_eq!(calls.get(), 2);
    let (again, the_same) = draw(&mut pipeline, &request());
    assert_eq!(again.timings.prompt_cache, cache(2, 0));
    assert_eq!(calls.get(), 2);
    assert_eq!(embeddings.0.len(), 2);
    assert_eq!(the_same.0, embeddings.0);
    assert_eq!(again.image, first.image);
}

#[test]
fn another_prompt_or_negative_prompt_is_read() {
    let (mut pipeline, calls) = counted(|_, shape_of| full(text_shape(shape_of), 0.5));
    draw(&mut pipeline, &request());
    let other = GenerateRequest {
        prompt: Prompt::new("a blue square").unwrap(),
        ..request()
    };
    let (picture, _) = draw(&mut pipeline, &other);
    assert_eq!(
        picture.timings.prompt_cache,
        cache(1, 1),
        "the empty negative prompt was there"
    );
    let swapped = GenerateRequest {
        negative_prompt: other.prompt.clone(),
        ..request()
    };
    let (picture, _) = draw(&mut pipeline, &swapped);
    assert_eq!(
        picture.timings.prompt_cache,
        cache(2, 0),
        "ids are ids, whichever field they come from"
    );
    let unguided = GenerateRequest {
        guidance: Guidance::new(0.0).unwrap(),
        ..request()
    };
    let (picture, embeddings) = draw(&mut pipeline, &unguided);
    assert_eq!(picture.timings.prompt_cache, cache(1, 0));
    assert_eq!(embeddings.0.len(), 1);
    assert_eq!(calls.get(), 3);
}

#[test]
fn embeddings_that_are_not_finite_are_not_kept() {
    let (mut pipeline, calls) = counted(|call, shape_of| {
        let value = if call == 0 { f32::NAN } else { 0.5 };
        full(text_shape(shape_of), value)
    });
    let mut watch = Embeddings::default();
    assert!(pipeline.generate(&request(), &mut watch).is_err());
    let (picture, _) = draw(&mut pipeline, &request());
    assert_eq!(picture.timings.prompt_cache, cache(0, 2));
    assert_eq!(calls.get(), 3);
}

/// Keeps the last decoded picture.
#[derive(Default)]
struct Decoded(Option<Vec<usize>>, f32);

impl Watch for Decoded {
    fn cancelled(&self) -> bool {
        false
    }

    fn observe(&mut self, event: Event<'_>) {
        if let Event::Decoded { image } = event {
            *self = Self(Some(image.shape().to_vec()), image[[0, 0, 0, 0]]);
        }
    }
}

#[test]
fn the_decoded_picture_is_shown_before_it_is_encoded() {
    let mut watch = Decoded::default();
    pipeline(good(), facts())
        .generate(&request(), &mut watch)
        .unwrap();
    assert_eq!(watch.0, Some(vec![1, 3, 32, 48]));
    assert!((watch.1 - 0.2).abs() < 1e-6);
}
