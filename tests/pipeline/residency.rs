//! When a text encoder on demand comes and goes, and what is never loaded for.

use std::cell::Cell;
use std::fs;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pixart::domain::{GenerateRequest, Guidance, Prompt, PromptCache};
use pixart::engine::{EngineError, Graph, OnDemandGraph, Port, Tensor};
use pixart::pipeline::{
    EmbeddingStore, Event, Generate as _, Networks, Pipeline, TextKeeping, Unwatched, Watch,
};

use super::{facts, full, good, good_text_encoder, pipeline, request, text_shape};
use crate::support::fake_graph::FakeGraph;

/// A pipeline whose text encoder is loaded on demand and stays for `idle`; and how often it was loaded.
fn on_demand(idle: Duration) -> (Pipeline, Rc<Cell<usize>>) {
    let loads = Rc::new(Cell::new(0));
    let count = Rc::clone(&loads);
    let networks = Networks {
        text_encoder: Box::new(OnDemandGraph::new(move || {
            count.set(count.get() + 1);
            Ok(good_text_encoder())
        })),
        ..good()
    };
    let keeping = TextKeeping {
        idle: Some(idle),
        ..TextKeeping::default()
    };
    (pipeline(networks, facts()).keeping(keeping), loads)
}

fn of(prompt: &str) -> GenerateRequest {
    GenerateRequest {
        prompt: Prompt::new(prompt).unwrap(),
        ..request()
    }
}

/// What happened, in its order.
#[derive(Default)]
struct Order(Vec<&'static str>);

impl Watch for Order {
    fn cancelled(&self) -> bool {
        false
    }

    fn observe(&mut self, event: Event<'_>) {
        let name = match event {
            Event::TextEncoderLoaded { .. } => "loaded",
            Event::TextEncoderReleased => "released",
            Event::TextEncoded { .. } => "encoded",
            Event::Stepped { step: 0, .. } => "stepped",
            Event::Decoded { .. } => "decoded",
            Event::Predicted { .. } | Event::Stepped { .. } => return,
        };
        self.0.push(name);
    }
}

fn order(pipeline: &mut Pipeline, request: &GenerateRequest) -> Vec<&'static str> {
    let mut order = Order::default();
    pipeline.generate(request, &mut order).unwrap();
    order.0
}

#[test]
fn without_idle_time_it_is_never_there_while_a_picture_is_drawn() {
    let (mut pipeline, loads) = on_demand(Duration::ZERO);
    let drawn = ["loaded", "encoded", "released", "stepped", "decoded"];
    assert_eq!(order(&mut pipeline, &request()), drawn);
    assert_eq!(
        order(&mut pipeline, &request()),
        ["encoded", "stepped", "decoded"],
        "a repeated prompt loads nothing"
    );
    assert_eq!(order(&mut pipeline, &of("a blue square")), drawn);
    assert_eq!(loads.get(), 2);
    assert!(!pipeline.rest(Instant::now()).resident);
}

/// Holds a place in memory, counted by whoever shares it.
struct Resident {
    network: Box<dyn Graph>,
    _place: Rc<()>,
}

impl Graph for Resident {
    fn input(&self, name: &str) -> Option<Port> {
        self.network.input(name)
    }

    fn infer(
        &mut self,
        inputs: &[(&str, &Tensor)],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Tensor, EngineError> {
        self.network.infer(inputs, cancelled)
    }
}

#[test]
fn the_others_make_room_while_it_is_loaded_and_are_back_for_the_steps() {
    let others = Rc::new(());
    let compilations = Rc::new(Cell::new(0));
    let made = |network: fn() -> Box<dyn Graph>| {
        let (others, count) = (Rc::clone(&others), Rc::clone(&compilations));
        move || {
            count.set(count.get() + 1);
            Ok(Box::new(Resident {
                network: network(),
                _place: Rc::clone(&others),
            }) as Box<dyn Graph>)
        }
    };
    let there = |mut compile: Box<dyn FnMut() -> Result<Box<dyn Graph>, EngineError>>| {
        let graph = compile().unwrap();
        Box::new(OnDemandGraph::there(graph, compile))
    };
    let beside = Rc::new(Cell::new(Vec::new()));
    let (watched, seen) = (Rc::downgrade(&others), Rc::clone(&beside));
    let networks = Networks {
        text_encoder: Box::new(OnDemandGraph::new(move || {
            // Those that made them share it too; the networks are the rest.
            let mut all = seen.take();
            all.push(watched.strong_count() - 3);
            seen.set(all);
            Ok(good_text_encoder())
        })),
        transformer: there(Box::new(made(|| good().transformer))),
        vae_decoder: there(Box::new(made(|| good().vae_decoder))),
        tiny_vae_decoder: None,
    };
    let keeping = TextKeeping {
        idle: Some(Duration::ZERO),
        ..TextKeeping::default()
    };
    let mut pipeline = pipeline(networks, facts()).keeping(keeping);
    let in_memory = || Rc::strong_count(&others) - 3;
    assert_eq!((in_memory(), compilations.get()), (2, 2));

    let first = pipeline.generate(&request(), &mut Unwatched).unwrap();
    assert_eq!(beside.take(), [0]);
    assert_eq!((in_memory(), compilations.get()), (2, 4));
    let again = pipeline.generate(&request(), &mut Unwatched).unwrap();
    assert_eq!(again.image, first.image);
    assert_eq!(compilations.get(), 4, "a repeated prompt loads nothing");

    // What was read ahead leaves them away, and the next picture loads them.
    let blue = of("a blue square");
    pipeline.read_ahead(&blue.prompt, &mut Unwatched).unwrap();
    assert_eq!((beside.take(), in_memory()), (vec![0], 0));
    let picture = pipeline.generate(&blue, &mut Unwatched).unwrap();
    assert_eq!((in_memory(), compilations.get()), (2, 6));
    assert!(picture.timings.text_encoder_load > Duration::ZERO);
    assert!(picture.timings.text_encode >= picture.timings.text_encoder_load);
}

#[test]
fn it_stays_for_its_idle_time_after_the_last_prompt_that_it_read() {
    let idle = Duration::from_secs(60);
    let (mut pipeline, loads) = on_demand(idle);
    let before = Instant::now();
    let rest = pipeline.rest(before + 2 * idle);
    assert_eq!(
        (rest.released, rest.resident, rest.again),
        (false, false, None)
    );
    order(&mut pipeline, &request());
    assert_eq!(
        order(&mut pipeline, &of("a blue square")),
        ["encoded", "stepped", "decoded"]
    );

    let rest = pipeline.rest(Instant::now());
    assert!(!rest.released && rest.resident);
    assert!(rest.embedding_bytes > 0);
    let due = rest.again.unwrap();
    assert!((before + idle..=Instant::now() + idle).contains(&due));
    // A repeated prompt does not need it, and keeps it no longer.
    order(&mut pipeline, &request());
    assert_eq!(pipeline.rest(Instant::now()).again, Some(due));

    let rest = pipeline.rest(due);
    assert_eq!(
        (rest.released, rest.resident, rest.again),
        (true, false, None)
    );
    assert!(!pipeline.rest(due).released);
    assert_eq!(loads.get(), 1);
    order(&mut pipeline, &of("a green star"));
    assert_eq!(loads.get(), 2);
}

#[test]
fn one_that_stays_is_never_put_away() {
    let mut pipeline = pipeline(good(), facts());
    let rest = pipeline.rest(Instant::now() + Duration::from_secs(86_400));
    assert_eq!(
        (rest.released, rest.resident, rest.again),
        (false, true, None)
    );
}

#[test]
fn prompts_that_are_read_ahead_load_it_once_and_are_at_hand() {
    let (mut pipeline, loads) = on_demand(Duration::ZERO);
    for prompt in [Prompt::empty(), request().prompt] {
        pipeline.read_ahead(&prompt, &mut Unwatched).unwrap();
    }
    let picture = pipeline.generate(&request(), &mut Unwatched).unwrap();
    let cache = picture.timings.prompt_cache;
    assert_eq!((cache.hits, cache.misses), (2, 0));
    assert_eq!(picture.timings.text_encoder_load, Duration::ZERO);
    assert_eq!(loads.get(), 1);
}

#[test]
fn loading_is_part_of_the_text_stage_and_told_apart() {
    let (mut pipeline, _) = on_demand(Duration::ZERO);
    let timings = pipeline
        .generate(&request(), &mut Unwatched)
        .unwrap()
        .timings;
    assert!(timings.text_encoder_load > Duration::ZERO);
    assert!(timings.text_encode > timings.text_encoder_load);
}

#[test]
fn each_prompt_runs_at_its_true_length() {
    let lengths = Rc::new(Cell::new(Vec::new()));
    let seen = Rc::clone(&lengths);
    let networks = Networks {
        text_encoder: FakeGraph::boxed(move |_, shape_of| {
            let mut all = seen.take();
            all.push(shape_of("input_ids"));
            assert_eq!(shape_of("attention_mask"), shape_of("input_ids"));
            seen.set(all);
            full(text_shape(shape_of), 0.5)
        }),
        ..good()
    };
    let mut pipeline = pipeline(networks, facts());
    let guided = of("a red circle and a blue square on the green grass");
    let plan = pipeline.planner().plan(&guided).unwrap();
    pipeline.generate(&guided, &mut Unwatched).unwrap();
    let alone = GenerateRequest {
        guidance: Guidance::new(0.0).unwrap(),
        ..of("x")
    };
    pipeline.generate(&alone, &mut Unwatched).unwrap();
    let lengths = lengths.take();
    // The empty negative prompt is its end mark alone.
    assert_eq!(lengths[..2], [vec![1, 1], vec![1, plan.prompt.read]]);
    assert!(lengths[2][1] < lengths[1][1] && lengths[1][1] < 120);
}

#[test]
fn embeddings_on_disk_spare_the_next_start_its_text_encoder_and_damage_costs_that_alone() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let (pipeline, loads) = on_demand(Duration::ZERO);
        let keeping = TextKeeping {
            store: Some(EmbeddingStore::open(folder.path(), &["digest"]).unwrap()),
            idle: Some(Duration::ZERO),
            ..TextKeeping::default()
        };
        (pipeline.keeping(keeping), loads)
    };
    let draw = |(mut pipeline, loads): (Pipeline, Rc<Cell<usize>>)| {
        let picture = pipeline.generate(&request(), &mut Unwatched).unwrap();
        let again = pipeline.generate(&request(), &mut Unwatched).unwrap();
        let in_memory = PromptCache {
            hits: 2,
            from_disk: 0,
            misses: 0,
        };
        assert_eq!(again.timings.prompt_cache, in_memory);
        (picture, loads.get())
    };
    let (first, loads) = draw(start());
    assert_eq!(first.timings.prompt_cache.misses, 2);
    assert_eq!(loads, 1);

    let (second, loads) = draw(start());
    let from_disk = PromptCache {
        hits: 2,
        from_disk: 2,
        misses: 0,
    };
    assert_eq!(second.timings.prompt_cache, from_disk);
    assert_eq!(loads, 0);
    assert_eq!(second.image, first.image);

    for entry in fs::read_dir(folder.path()).unwrap() {
        fs::write(entry.unwrap().path(), "torn").unwrap();
    }
    let (third, loads) = draw(start());
    assert_eq!(third.timings.prompt_cache.misses, 2);
    assert_eq!(loads, 1);
    assert_eq!(third.image, first.image);
    let (fourth, _) = draw(start());
    assert_eq!(fourth.timings.prompt_cache, from_disk);
}
