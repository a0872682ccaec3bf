//! Which of a model's variants draws: the fastest that is near enough to the original, by what was measured of it on this
//! instruction set.
//!
//! A variant is a model directory below the model's own, `variants/NAME`, that `pixart quantize` made of it. What its pictures
//! and its times are beside the model's own, `pixart compare --record` writes into its manifest.
//!
//! Times are noisy: the same model twice, by turns, is 0.95 to 1.05 times as fast as itself. So a variant has to gain more than
//! that, in the worst pair of its turns: see [`LEAST_GAIN`].

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::directory::{ModelDirectory, ModelError};
use super::manifest::Manifest;
use super::measurement::Measurement;
use crate::domain::{Decoder, Quality};

/// What draws.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// What was asked for.
    pub quality: Quality,
    /// The model's folder, or that of the variant that draws in its place.
    pub directory: PathBuf,
    /// That variant's name.
    pub variant: Option<String>,
    /// Whether floats have to be computed in f32 to be near enough.
    pub in_f32: bool,
    /// What there is, by name.
    pub standings: Vec<Standing>,
}

/// What is known of a variant here.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The name of its folder.
    pub name: String,
    /// What was measured of it, on this instruction set and against this model.
    pub measured: Option<Measurement>,
    /// What was measured of it against this model on another instruction set alone.
    pub measured_elsewhere: Option<Measurement>,
    /// Why it draws at no quality; none where it does.
    pub useless: Option<String>,
    /// The qualities that it is near enough for.
    pub qualities: Vec<Quality>,
}

/// What a choice is made for.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// What is asked for.
    pub quality: Quality,
    /// The processor's.
    pub instruction_set: &'a [&'static str],
    /// The arithmetic that the settings insist on; none where it is the device's own choice.
    pub precision: Option<&'a str>,
}

impl Choice {
    /// Chooses among the model at `directory` and its variants.
    ///
    /// A variant is taken where its manifest tells, of this model, this instruction set and this arithmetic, that it draws
    /// faster by [`LEAST_GAIN`] at least, and as near to f32 as the quality wants. The model itself is near enough for all but [`Quality::Exact`]; for that it
    /// computes in f32, unless its own manifest tells that it is near enough without.
    ///
    /// # Errors
    /// When the model's own manifest cannot be read. A variant that cannot be read is told among the standings.
    pub fn of(directory: &Path, circumstances: Circumstances<'_>) -> Result<Self, ModelError> {
        let own = ModelDirectory::open_unchecked(directory)?;
        let digest = own.manifest().measured_digest();
        let Circumstances {
            quality, precision, ..
        } = circumstances;
        let newest = |manifest: &Manifest, place: Place| {
            let counts = |found: &&Measurement| {
                counts(found, &digest, circumstances)
                    && Place::of(found, circumstances.instruction_set) == place
            };
            manifest.measured.iter().rfind(counts).cloned()
        };
        let measured = |manifest: &Manifest| newest(manifest, Place::Here);
        let mut standings = Vec::new();
        for folder in variants(directory) {
            let name = folder.file_name().unwrap_or_default();
            let name = name.to_string_lossy().into_owned();
            standings.push(match ModelDirectory::open_unchecked(&folder) {
                Ok(variant) => match measured(variant.manifest()) {
                    Some(found) => Standing::measured(name, found),
                    None => {
                        Standing::not_measured(name, newest(variant.manifest(), Place::Elsewhere))
                    }
                },
                Err(error) => Standing {
                    name,
                    measured: None,
                    measured_elsewhere: None,
                    useless: Some(error.to_string()),
                    qualities: Vec::new(),
                },
            });
        }
        let fastest = standings
            .iter()
            .filter(|standing| standing.useless.is_none() && standing.qualities.contains(&quality))
            .max_by(|a, b| a.gain().total_cmp(&b.gain()));
        let variant = fastest.map(|standing| standing.name.clone());
        let is_near = measured(own.manifest())
            .is_some_and(|found| found.median_psnr_db >= Quality::Exact.least_psnr_db());
        Ok(Self {
            quality,
            directory: variant.as_ref().map_or_else(
                || directory.to_owned(),
                |name| directory.join(VARIANTS).join(name),
            ),
            in_f32: quality == Quality::Exact
                && variant.is_none()
                && precision.is_none()
                && !is_near,
            variant,
            standings,
        })
    }

    /// A model without variants; `free`, where no arithmetic is insisted on.
    pub fn plain(directory: &Path, quality: Quality, free: bool) -> Self {
        Self {
            quality,
            directory: directory.to_owned(),
            variant: None,
            in_f32: quality == Quality::Exact && free,
            standings: Vec::new(),
        }
    }

    /// The variants that draw nothing here because they were measured on another processor alone, with what was measured.
    pub fn measured_elsewhere(&self) -> impl Iterator<Item = (&Standing, &Measurement)> {
        self.standings
            .iter()
            .filter_map(|standing| Some((standing, standing.measured_elsewhere.as_ref()?)))
    }
}

/// How many times as fast as the model a variant has to be, in the worst pair of its turns. A model by turns with itself comes to
/// 0.95 to 1.05 on a quiet machine: what gains less than a tenth may gain nothing, and its images are farther from the original's.
pub const LEAST_GAIN: f64 = 1.1;

/// The folder of a model's variants.
pub const VARIANTS: &str = "variants";

/// Where something was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// On a processor with the same instruction set as this one.
    Here,
    /// On another.
    Elsewhere,
}

impl Place {
    fn of(found: &Measurement, instruction_set: &[&str]) -> Self {
        if found.instruction_set == instruction_set {
            Self::Here
        } else {
            Self::Elsewhere
        }
    }
}

/// Whether a measurement tells of this model, drawn as it would be here, on whatever processor.
fn counts(found: &Measurement, digest: &str, circumstances: Circumstances<'_>) -> bool {
    found.against == digest
        && found.against_precision.eq_ignore_ascii_case("f32")
        && found.decoder == Decoder::Full.name()
        && match circumstances.precision {
            Some(precision) => found.precision.eq_ignore_ascii_case(precision),
            None => found.asked_precision == "auto",
        }
}

impl Standing {
    fn measured(name: String, found: Measurement) -> Self {
        let qualities: Vec<Quality> = Quality::ALL
            .into_iter()
            .filter(|quality| found.median_psnr_db >= quality.least_psnr_db())
            .collect();
        let useless = match found.gain() {
            None => {
                Some("its time was not measured: pixart compare MODEL VARIANT --record".to_owned())
            }
            Some(gain) if gain < LEAST_GAIN => Some(format!(
                "it does not help here: {gain:.2} times as fast{}, and less than {LEAST_GAIN} may be noise",
                match found.least_times_faster {
                    Some(_) => " in its worst pair",
                    None => "",
                }
            )),
            Some(_) if qualities.is_empty() => Some(format!(
                "its pictures are too far from the original's: {:.1} dB",
                found.median_psnr_db
            )),
            Some(_) => None,
        };
        Self {
            name,
            measured: Some(found),
            measured_elsewhere: None,
            useless,
            qualities,
        }
    }

    fn not_measured(name: String, elsewhere: Option<Measurement>) -> Self {
        let useless = match &elsewhere {
            None => {
                "it was not measured here against this model: pixart compare MODEL VARIANT --record"
                    .to_owned()
            }
            Some(found) => format!(
                "it was measured on another processor alone ({found}), whose times say nothing here: pixart compare MODEL VARIANT --record",
                found = found.processor()
            ),
        };
        Self {
            name,
            measured: None,
            measured_elsewhere: elsewhere,
            useless: Some(useless),
            qualities: Vec::new(),
        }
    }

    fn gain(&self) -> f64 {
        let measured = self.measured.as_ref();
        measured.and_then(Measurement::gain).unwrap_or(1.0)
    }
}

/// The folders of a model's variants by name, but for hidden ones, which are in the making.
pub fn variants(directory: &Path) -> Vec<PathBuf> {
    let listed = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(directory.join(VARIANTS))?
            .map(|entry| Ok(entry?.path()))
            .collect()
    };
    let is_hidden = |name: &OsStr| name.as_encoded_bytes().starts_with(b".");
    let mut found = listed().unwrap_or_default();
    found.retain(|path| path.is_dir() && !path.file_name().is_none_or(is_hidden));
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        ComponentEntry, Defaults, FileEntry, Part, PipelineClass, TextEncoderSpec, TransformerSpec,
        VaeSpec, WeightsFormat,
    };

    fn manifest(name: &str) -> Manifest {
        fn component<Spec>(spec: Spec) -> ComponentEntry<Spec> {
            ComponentEntry {
                spec,
                weights: WeightsFormat::F16,
                fingerprint: String::new(),
                quantization: None,
                unused_tensors: None,
            }
        }
        let text_encoder = include_str!("../../models/sketchbook/text_encoder/config.json");
        let transformer = include_str!("../../models/sketchbook/transformer/config.json");
        let vae = include_str!("../../models/sketchbook/vae/config.json");
        let file = |name: String| {
            let entry = FileEntry {
                bytes: 0,
                sha256: String::new(),
            };
            (name, entry)
        };
        let networks = Part::ALL.map(|part| [part.xml().to_owned(), part.bin()]);
        let pages = [ModelDirectory::SCHEDULER, ModelDirectory::SENTENCEPIECE].map(str::to_owned);
        Manifest {
            format: Manifest::FORMAT,
            name: name.to_owned(),
            source: name.to_owned(),
            pixart: String::new(),
            openvino: String::new(),
            pipeline: PipelineClass::Alpha,
            defaults: Defaults {
                width_px: 256,
                height_px: 256,
                resolution_binning: false,
            },
            text_encoder: component(TextEncoderSpec::from_json(text_encoder).unwrap()),
            transformer: component(TransformerSpec::from_json(transformer).unwrap()),
            vae_decoder: component(VaeSpec::from_json(vae).unwrap()),
            tiny_vae_decoder: None,
            calibration: None,
            measured: Vec::new(),
            files: networks
                .into_iter()
                .flatten()
                .chain(pages)
                .map(file)
                .collect(),
        }
    }

    const HERE: &[&str] = &["AVX2", "AVX512-VNNI"];

    /// Folders with manifests and nothing else.
    struct Shelf(tempfile::TempDir);

    impl Shelf {
        fn new() -> Self {
            let shelf = Self(tempfile::tempdir().unwrap());
            shelf.put("", "original", &[]);
            shelf
        }

        fn put(&self, folder: &str, name: &str, measured: &[Measurement]) {
            let folder = self.0.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            let mut manifest = manifest(name);
            manifest.measured = measured.to_vec();
            // Another file makes another digest.
            if let Some(file) = manifest.files.values_mut().next() {
                name.clone_into(&mut file.sha256);
            }
            fs::write(
                folder.join(Manifest::FILE_NAME),
                manifest.to_json().unwrap(),
            )
            .unwrap();
        }

        fn digest(&self) -> String {
            let model = ModelDirectory::open_unchecked(self.0.path()).unwrap();
            model.manifest().measured_digest()
        }

        fn measurement(&self, median_psnr_db: f64, times_faster: f64) -> Measurement {
            Measurement {
                against: self.digest(),
                against_precision: "f32".to_owned(),
                precision: "bf16".to_owned(),
                asked_precision: "auto".to_owned(),
                decoder: "full".to_owned(),
                pictures: 8,
                median_psnr_db,
                least_psnr_db: median_psnr_db,
                median_ssim: None,
                median_latents_cosine: 1.0,
                times_faster: Some(times_faster),
                least_times_faster: Some(times_faster),
                cpu: "a processor".to_owned(),
                cores: 2,
                instruction_set: HERE.iter().map(|&name| name.to_owned()).collect(),
            }
        }

        fn choose(&self, quality: Quality) -> Choice {
            self.choose_with(quality, None)
        }

        fn choose_with(&self, quality: Quality, precision: Option<&str>) -> Choice {
            Choice::of(
                self.0.path(),
                Circumstances {
                    quality,
                    instruction_set: HERE,
                    precision,
                },
            )
            .unwrap()
        }
    }

    #[test]
    fn without_variants_the_model_draws_and_exactly_in_f32_alone() {
        let shelf = Shelf::new();
        for quality in Quality::ALL {
            let choice = shelf.choose(quality);
            assert_eq!(choice.variant, None);
            assert_eq!(choice.directory, shelf.0.path());
            assert_eq!(choice.in_f32, quality == Quality::Exact);
        }
        // Who insists on an arithmetic gets it.
        assert!(!shelf.choose_with(Quality::Exact, Some("bf16")).in_f32);
    }

    #[test]
    fn a_model_that_is_measured_near_enough_keeps_the_devices_arithmetic() {
        let shelf = Shelf::new();
        for (psnr, in_f32) in [(39.9, true), (40.0, false)] {
            let own = shelf.measurement(psnr, 1.0);
            let mut manifest = ModelDirectory::open_unchecked(shelf.0.path())
                .unwrap()
                .manifest()
                .clone();
            manifest.measured = vec![own];
            let path = shelf.0.path().join(Manifest::FILE_NAME);
            fs::write(path, manifest.to_json().unwrap()).unwrap();
            assert_eq!(shelf.choose(Quality::Exact).in_f32, in_f32, "{psnr} dB");
        }
    }

    #[test]
    fn each_quality_takes_the_fastest_that_is_near_enough() {
        let shelf = Shelf::new();
        for (name, psnr, times) in [
            ("careful", 41.0, 1.1),
            ("middling", 30.0, 1.4),
            ("rough", 22.0, 1.9),
            ("hopeless", 12.0, 3.0),
            ("slow", 45.0, 0.9),
            ("noise", 45.0, 1.05),
        ] {
            shelf.put(
                &format!("variants/{name}"),
                name,
                &[shelf.measurement(psnr, times)],
            );
        }
        for (quality, variant) in [
            (Quality::Exact, "careful"),
            (Quality::Balanced, "middling"),
            (Quality::Fast, "rough"),
        ] {
            let choice = shelf.choose(quality);
            assert_eq!(choice.variant.as_deref(), Some(variant), "{quality}");
            assert!(choice.directory.ends_with(format!("variants/{variant}")));
            assert!(!choice.in_f32);
        }
        let standings = shelf.choose(Quality::Fast).standings;
        let useless = |name: &str| {
            let standing = standings.iter().find(|standing| standing.name == name);
            standing.unwrap().useless.clone().unwrap_or_default()
        };
        assert!(useless("slow").contains("does not help here: 0.90"));
        assert!(useless("noise").contains("1.05 times as fast in its worst pair"));
        assert!(useless("hopeless").contains("12.0 dB"));
        assert_eq!(useless("rough"), "");
    }

    #[test]
    fn what_was_measured_of_another_model_or_elsewhere_does_not_count() {
        let shelf = Shelf::new();
        let good = shelf.measurement(35.0, 1.5);
        let others = [
            Measurement {
                against: "another".to_owned(),
                ..good.clone()
            },
            Measurement {
                against_precision: "bf16".to_owned(),
                ..good.clone()
            },
            Measurement {
                decoder: "tiny".to_owned(),
                ..good.clone()
            },
            Measurement {
                precision: "f32".to_owned(),
                asked_precision: "f32".to_owned(),
                ..good.clone()
            },
        ];
        for other in others {
            shelf.put("variants/int8", "int8", &[other]);
            let choice = shelf.choose(Quality::Balanced);
            assert_eq!(choice.variant, None);
            let useless = choice.standings[0].useless.clone().unwrap();
            assert!(useless.contains("not measured here"), "{useless}");
        }
        // The newest that counts counts.
        shelf.put(
            "variants/int8",
            "int8",
            &[shelf.measurement(35.0, 0.5), good.clone()],
        );
        let choice = shelf.choose(Quality::Balanced);
        assert_eq!(choice.variant.as_deref(), Some("int8"));
        let insisting = shelf.choose_with(Quality::Balanced, Some("f32"));
        assert_eq!(insisting.variant, None, "it was measured in bf16");
    }

    #[test]
    fn a_gain_counts_by_its_worst_pair_and_from_a_tenth_on() {
        let shelf = Shelf::new();
        let taken = |median: f64, worst: Option<f64>| {
            let found = Measurement {
                times_faster: Some(median),
                least_times_faster: worst,
                ..shelf.measurement(45.0, median)
            };
            shelf.put("variants/int8", "int8", &[found]);
            shelf.choose(Quality::Balanced).variant.is_some()
        };
        assert!(!taken(1.05, Some(1.04)), "noise");
        assert!(!taken(1.5, Some(1.09)), "one pair gained hardly anything");
        assert!(taken(1.2, Some(1.1)));
        // Of what was measured by earlier versions, the median is all that is known.
        assert!(!taken(1.05, None));
        assert!(taken(1.2, None));
    }

    #[test]
    fn what_was_measured_on_another_processor_alone_is_named_with_it() {
        let shelf = Shelf::new();
        let elsewhere = Measurement {
            cpu: "another processor".to_owned(),
            instruction_set: vec!["AVX2".to_owned()],
            ..shelf.measurement(35.0, 1.5)
        };
        let of_another = Measurement {
            against: "another".to_owned(),
            ..elsewhere.clone()
        };
        shelf.put("variants/int8", "int8", std::slice::from_ref(&elsewhere));
        shelf.put("variants/stale", "stale", &[of_another]);
        let choice = shelf.choose(Quality::Balanced);
        assert_eq!(choice.variant, None);
        let named: Vec<_> = choice.measured_elsewhere().collect();
        let [(standing, found)] = named[..] else {
            panic!("{named:?}");
        };
        assert_eq!((standing.name.as_str(), found), ("int8", &elsewhere));
        let useless = standing.useless.as_deref().unwrap();
        assert!(useless.contains("another processor, AVX2"), "{useless}");
        assert!(
            useless.contains("pixart compare MODEL VARIANT --record"),
            "{useless}"
        );
        // Measured here too, it is told of no more.
        let here = shelf.measurement(35.0, 1.5);
        shelf.put("variants/int8", "int8", &[here, elsewhere]);
        let choice = shelf.choose(Quality::Balanced);
        assert_eq!(choice.variant.as_deref(), Some("int8"));
        assert_eq!(choice.measured_elsewhere().count(), 0);
    }

    #[test]
    fn a_folder_that_is_no_model_is_told_and_stops_nothing() {
        let shelf = Shelf::new();
        fs::create_dir_all(shelf.0.path().join("variants/notes")).unwrap();
        fs::create_dir_all(shelf.0.path().join("variants/.int8.partial-x")).unwrap();
        fs::write(shelf.0.path().join("variants/README"), "text").unwrap();
        let choice = shelf.choose(Quality::Balanced);
        assert_eq!(choice.variant, None);
        assert_eq!(choice.standings.len(), 1);
        let useless = choice.standings[0].useless.clone().unwrap();
        assert!(useless.contains("manifest.json"), "{useless}");
    }
}
