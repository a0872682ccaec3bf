//! The values that labels may have. They are closed sets: so a metric has as many series as its enum has variants.

/// An enum whose variants are all the values of one label, with `ALL` and `name()`.
macro_rules! label {
    ($(#[$doc:meta])* $label:ident { $($(#[$says:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $label {
            $($(#[$says])* $variant,)+
        }

        impl $label {
            /// All of them, in the order of their discriminants.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The label's value.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

label! {
    /// How a request for a picture ended.
    RequestOutcome {
        /// Answered with what it asked for.
        Ok = "ok",
        /// It made no sense, or had no key.
        Invalid = "invalid",
        /// Its body, or all that it asked for, was too large.
        TooLarge = "too_large",
        /// All places were taken, or its deadline could not be met.
        QueueFull = "queue_full",
        /// It came while the service was shutting down.
        Draining = "draining",
        /// It came before the model was loaded, or while the worker was down.
        NotReady = "not_ready",
        /// Its deadline passed.
        Timeout = "timeout",
        /// Its caller went away or took it back.
        Cancelled = "cancelled",
        /// Drawing failed.
        Error = "error",
    }
}

impl RequestOutcome {
    /// Those of requests that were let in, which take as long as they take.
    pub const SERVED: [Self; 4] = [Self::Ok, Self::Timeout, Self::Cancelled, Self::Error];
    /// Those of requests that were refused, which is done at once.
    pub const REFUSED: [Self; 5] = [
        Self::Invalid,
        Self::TooLarge,
        Self::QueueFull,
        Self::Draining,
        Self::NotReady,
    ];
}

label! {
    /// How a job that had been accepted ended.
    JobOutcome {
        /// Its pictures are drawn.
        Succeeded = "succeeded",
        /// Drawing failed.
        Failed = "failed",
        /// Its caller went away or took it back.
        Cancelled = "cancelled",
        /// Its deadline passed.
        Expired = "expired",
        /// The service shut down before its turn, or before it was done.
        Drained = "drained",
    }
}

label! {
    /// A stretch of a request's way.
    Stage {
        /// Body to request.
        Parse = "parse",
        /// Prompt to tokens.
        Tokenize = "tokenize",
        /// Tokens to embeddings.
        TextEncode = "text_encode",
        /// Noise to latents, all steps.
        Denoise = "denoise",
        /// Latents to pixels.
        VaeDecode = "vae_decode",
        /// Pixels to a file, whichever format it has.
        PngEncode = "png_encode",
        /// File to answer.
        Respond = "respond",
    }
}

label! {
    /// Why the worker had to begin anew.
    RestartReason {
        /// It panicked.
        Panic = "panic",
        /// The runtime failed in a way that leaves its models unfit.
        Engine = "engine",
        /// An image found too little memory, and is drawn again by a worker that keeps nothing of those before it.
        Memory = "memory",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_either_served_or_refused() {
        for outcome in RequestOutcome::ALL {
            let is_served = RequestOutcome::SERVED.contains(&outcome);
            let is_refused = RequestOutcome::REFUSED.contains(&outcome);
            assert_ne!(is_served, is_refused, "{}", outcome.name());
        }
    }

    #[test]
    fn discriminants_are_places_in_the_list_of_all() {
        fn holds<T: Copy>(all: &[T], place: impl Fn(T) -> usize) {
            let places: Vec<usize> = all.iter().copied().map(place).collect();
            assert_eq!(places, (0..all.len()).collect::<Vec<_>>());
        }
        holds(&RequestOutcome::ALL, |outcome| outcome as usize);
        holds(&JobOutcome::ALL, |outcome| outcome as usize);
        holds(&Stage::ALL, |stage| stage as usize);
        holds(&RestartReason::ALL, |reason| reason as usize);
    }
}
