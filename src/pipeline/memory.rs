//! Whether an image fits into memory, before it is drawn.
//!
//! What it needs is what is held between two images, what drawing it holds ([`ImageCost::memory`]) and a reserve; what it may take
//! is the limit in force. So long as none is known, nothing is refused.

use std::fmt;

use thiserror::Error;

use super::{ImageCost, ImageMemory, Planner};
use crate::domain::{Decoder, GenerateRequest, ImageSize, Prompt, RequestDraft, Seed};

/// What an image may take of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBudget {
    /// The limit in force.
    pub limit_bytes: u64,
    /// What is held while nothing is drawn, measured: the loaded model, and what its networks keep.
    pub resident_bytes: u64,
    /// What is left to everything beside the image: kept results, connections, what grows.
    pub reserved_bytes: u64,
    /// What an image held that was drawn under this very limit, by its cost: what takes no more fits.
    pub proven_bytes: u64,
}

impl MemoryBudget {
    /// What the process would hold at the peak of an image of this cost.
    pub fn needed_bytes(&self, cost: ImageCost) -> u64 {
        self.resident_bytes
            .saturating_add(self.reserved_bytes)
            .saturating_add(cost.memory.bytes())
    }

    /// What the networks may hold for images beside what was measured at rest.
    pub fn room_bytes(&self) -> u64 {
        let beside = self.resident_bytes.saturating_add(self.reserved_bytes);
        self.limit_bytes
            .saturating_sub(beside)
            .max(self.proven_bytes)
    }

    /// Whether an image of this cost fits.
    pub fn fits(&self, cost: ImageCost) -> bool {
        cost.memory.bytes() <= self.proven_bytes || self.needed_bytes(cost) <= self.limit_bytes
    }
}

/// What bounds this process's memory, as far as it is known before anything was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The limit in force.
    pub bytes: u64,
    /// Whether more than that ends the process: a control group's limit, or one that the settings name.
    pub is_hard: bool,
    /// What results that are kept may take of it.
    pub kept_bytes: u64,
    /// What the networks take more once they have run for the first time: they pack their weights then.
    pub unpacked_bytes: u64,
    /// What a text encoder takes that comes on demand and may then stay beside an image; 0 for any other.
    pub text_encoder_bytes: u64,
}

impl MemoryLimit {
    /// What the kernel counts beside anonymous pages: page tables, buffers of sockets, the files that cannot be spared.
    pub fn slack_bytes(&self) -> u64 {
        self.bytes / 32
    }

    /// What is left to the service's own allocations when the networks have taken all else.
    pub fn service_bytes(&self) -> u64 {
        (self.bytes / 16).clamp(16 << 20, 128 << 20)
    }

    /// The budget of images, where so much is held at rest and an image of `proven_bytes` was drawn already.
    pub fn budget(&self, resident_bytes: u64, proven_bytes: u64) -> MemoryBudget {
        MemoryBudget {
            limit_bytes: self.bytes,
            resident_bytes,
            reserved_bytes: self.kept_bytes
                + self.slack_bytes()
                + self.service_bytes()
                + KERNELS_BYTES,
            proven_bytes,
        }
    }
}

/// What the kernels of other sizes take (see `KERNELS_KEPT` in engine/), all networks together. With sketchbook 150 MiB by transformer and full
/// decoder after 25 sizes, and no more after 200; the tiny decoder has some of its own.
const KERNELS_BYTES: u64 = 192 << 20;

/// An image that memory does not suffice for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct TooLargeForMemory {
    /// Its size as drawn.
    pub drawn_size: ImageSize,
    /// What the process would hold.
    pub needed_bytes: u64,
    /// The limit in force.
    pub limit_bytes: u64,
    /// The largest size of the same shape that fits; none where the smallest does not.
    pub largest: Option<ImageSize>,
    /// Whether the same size fits with the tiny decoder.
    pub fits_with_tiny: bool,
}

impl fmt::Display for TooLargeForMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        write!(
            f,
            "drawing {} needs about {:.0} MB of memory and the limit is {:.0} MB: ",
            self.drawn_size,
            mb(self.needed_bytes),
            mb(self.limit_bytes),
        )?;
        match (self.largest, self.fits_with_tiny) {
            (Some(size), true) => write!(f, "{size} would fit, or the decoder tiny"),
            (None, true) => f.write_str("the decoder tiny would fit"),
            (Some(size), false) => write!(f, "{size} would fit"),
            (None, false) => f.write_str("no size would fit, so raise the memory limit"),
        }
    }
}

impl Planner {
    /// Holds that a request which is drawn at `drawn_size` fits into memory.
    ///
    /// # Errors
    /// When it does not; with what would.
    pub fn check_memory(
        &self,
        request: &GenerateRequest,
        drawn_size: ImageSize,
        budget: MemoryBudget,
    ) -> Result<(), TooLargeForMemory> {
        let cost = self.cost(request, drawn_size);
        if budget.fits(cost) {
            return Ok(());
        }
        let with_tiny = GenerateRequest {
            decoder: Decoder::Tiny,
            ..request.clone()
        };
        let fits_with_tiny = self.has_tiny_decoder()
            && request.decoder != Decoder::Tiny
            && budget.fits(self.cost(&with_tiny, drawn_size));
        Err(TooLargeForMemory {
            drawn_size,
            needed_bytes: budget.needed_bytes(cost),
            limit_bytes: budget.limit_bytes,
            largest: self.largest(request, request.size, budget),
            fits_with_tiny,
        })
    }

    /// What an image costs that leaves everything to the model.
    pub fn default_cost(&self) -> ImageCost {
        let request = self.default_request();
        let drawn = self.drawn_size(&request).unwrap_or(request.size);
        self.cost(&request, drawn)
    }

    /// The largest square that fits, drawn as the model draws by itself.
    pub fn largest_square(&self, budget: MemoryBudget) -> Option<ImageSize> {
        let request = self.default_request();
        let square = ImageSize::new(ImageSize::MAX_SIDE_PX, ImageSize::MAX_SIDE_PX).ok()?;
        self.largest(&request, square, budget)
    }

    fn default_request(&self) -> GenerateRequest {
        RequestDraft::new(Prompt::empty(), Seed::new(0)).complete(self.defaults())
    }

    /// The largest size that is drawn for such a request and fits: of the shape of `shape`, and no larger than that.
    pub fn largest(
        &self,
        request: &GenerateRequest,
        shape: ImageSize,
        budget: MemoryBudget,
    ) -> Option<ImageSize> {
        let multiple = self.size_multiple_px();
        let (width, height) = (shape.width_px(), shape.height_px());
        let longest = width.max(height);
        // The longer side, in steps; the other one follows it.
        let at = |steps: u32| {
            let side = |side: u32| {
                let scaled = u64::from(side) * u64::from(steps * multiple) / u64::from(longest);
                let scaled = u32::try_from(scaled).unwrap_or(longest);
                (scaled / multiple * multiple).max(multiple)
            };
            ImageSize::new(side(width), side(height)).ok()
        };
        (1..=longest / multiple).rev().find_map(|steps| {
            let size = at(steps)?;
            let smaller = GenerateRequest {
                size,
                ..request.clone()
            };
            let drawn = self.drawn_size(&smaller).ok()?;
            budget.fits(self.cost(&smaller, drawn)).then_some(size)
        })
    }
}

/// What the networks keep of the images that they have drawn, and how much that may be.
///
/// OpenVINO's networks keep the memory of their largest image. So a small image after a large one, by the other decoder, may need what
/// the first one holds: then the networks that hold more than they need are given back, and compiled again.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// None: no bound.
    room: Option<u64>,
    transformer: u64,
    /// By each decoder.
    decoders: [u64; 2],
}

/// Which networks have to be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct GiveBack {
    pub(super) transformer: bool,
    pub(super) decoders: [bool; 2],
}

impl Held {
    /// Nothing yet, and no more than `room` from here on.
    pub(super) fn within(room: u64) -> Self {
        Self {
            room: Some(room),
            ..Self::default()
        }
    }

    /// An image is about to be drawn. Says what has to be given back before.
    pub(super) fn draw(&mut self, image: ImageMemory, decoder: Decoder) -> GiveBack {
        let mut needed = [0; 2];
        needed[decoder as usize] = image.decoder;
        let after = self.after(image.transformer, needed) + image.output;
        let mut back = GiveBack::default();
        if self.room.is_some_and(|room| after > room) {
            back.transformer = self.transformer > image.transformer;
            back.decoders = [0, 1].map(|index| self.decoders[index] > needed[index]);
            if back.transformer {
                self.transformer = 0;
            }
            for (held, back) in self.decoders.iter_mut().zip(back.decoders) {
                if back {
                    *held = 0;
                }
            }
        }
        self.take(image.transformer, needed);
        back
    }

    /// Whether the tiny decoder may make previews of so many bytes beside what is held; it holds them from then on.
    pub(super) fn preview(&mut self, bytes: u64) -> bool {
        let mut needed = [0; 2];
        needed[Decoder::Tiny as usize] = bytes;
        let fits = self.room.is_none_or(|room| self.after(0, needed) <= room);
        if fits {
            self.take(0, needed);
        }
        fits
    }

    fn after(&self, transformer: u64, decoders: [u64; 2]) -> u64 {
        let decoders = self.decoders.iter().zip(decoders);
        self.transformer.max(transformer)
            + decoders
                .map(|(&held, needed)| held.max(needed))
                .sum::<u64>()
    }

    fn take(&mut self, transformer: u64, decoders: [u64; 2]) {
        self.transformer = self.transformer.max(transformer);
        for (held, needed) in self.decoders.iter_mut().zip(decoders) {
            *held = needed.max(*held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(transformer: u64, decoder: u64) -> ImageMemory {
        ImageMemory {
            transformer,
            decoder,
            output: 1,
        }
    }

    #[test]
    fn what_networks_keep_is_given_back_only_where_the_next_image_needs_it() {
        let mut held = Held::within(100);
        let nothing = GiveBack::default();
        assert_eq!(held.draw(image(10, 80), Decoder::Full), nothing);
        // It takes what is there.
        assert_eq!(held.draw(image(5, 40), Decoder::Full), nothing);
        assert_eq!(held.draw(image(10, 5), Decoder::Tiny), nothing);
        // 10 + 80 + 30 are too many: the full decoder's go, which are of no use here.
        let back = held.draw(image(10, 30), Decoder::Tiny);
        assert_eq!(back.decoders, [true, false]);
        assert!(!back.transformer);
        // 10 + 30 are held, and 65 more fit into no 100: both others have to go.
        let back = held.draw(image(5, 65), Decoder::Full);
        assert_eq!(back.decoders, [false, true]);
        assert!(back.transformer);
        assert!(!held.preview(40) && held.preview(20));
        let mut unbounded = Held::default();
        assert_eq!(
            unbounded.draw(image(1 << 40, 1 << 40), Decoder::Full),
            nothing
        );
        assert!(unbounded.preview(1 << 40));
    }

    #[test]
    fn an_image_fits_by_its_price_or_because_one_like_it_was_drawn() {
        let budget = MemoryBudget {
            limit_bytes: 1000,
            resident_bytes: 300,
            reserved_bytes: 200,
            proven_bytes: 0,
        };
        let cost = |bytes: u64| ImageCost {
            pass: 1.0,
            decode: 1.0,
            memory: image(bytes - 1, 0),
        };
        assert!(budget.fits(cost(500)) && !budget.fits(cost(501)));
        assert_eq!(budget.needed_bytes(cost(501)), 1001);
        let proven = MemoryBudget {
            proven_bytes: 700,
            ..budget
        };
        assert!(proven.fits(cost(700)) && !proven.fits(cost(701)));
        assert_eq!((budget.room_bytes(), proven.room_bytes()), (500, 700));
    }
}
