//! Reports as Markdown tables for people.

use std::fmt::Write as _;

use super::{CaseReport, Comparison, MemoryPeak, Report, StageReport};

/// The table of one model.
pub fn table(report: &Report) -> String {
    let mut text = head(report);
    for case in &report.cases {
        let _ = write!(text, "\n{}", case_table(case));
    }
    text
}

fn head(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "{model}, weights {weights}, {precision} on {device} · {cpu}, {cores} cores · pixart {pixart}, OpenVINO {openvino}\n\
         loaded in {load}{memory}\n",
        model = report.model,
        weights = report.weights,
        precision = report.precision,
        device = match report.decoder.as_str() {
            "full" => report.device.clone(),
            other => format!("{}, {other} decoder", report.device),
        },
        cpu = machine.cpu,
        cores = machine.cores,
        pixart = report.pixart,
        openvino = report.openvino,
        load = seconds(report.load_seconds),
        memory = memory(report.load_memory),
    );
    if let Some(peak) = report.matmul_flops_per_second {
        let _ = writeln!(text, "matmul peak of this machine: {}", flops(peak));
    }
    text
}

fn case_table(case: &CaseReport) -> String {
    let tokens: Vec<String> = case.tokens.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "{} · {} steps of {} · guidance {} · {} tokens{}\n\n\
         | stage | median | min – max | MAD | n | GFLOP | FLOP/s | of peak |\n|---|--:|--:|--:|--:|--:|--:|--:|\n",
        case.size,
        case.steps,
        case.scheduler,
        case.guidance_scale,
        tokens.join(" + "),
        memory(case.memory),
    );
    for stage in case.stages.iter().chain([&case.step, &case.whole]) {
        let _ = writeln!(text, "{}", row(stage));
    }
    let _ = writeln!(
        text,
        "\nthe stages' sum is {:.1} % of the whole",
        100.0 * case.stage_sum_share
    );
    text
}

fn row(stage: &StageReport) -> String {
    let spread = &stage.spread;
    let or_nothing = |text: Option<String>| text.unwrap_or_default();
    format!(
        "| {} | {} | {} – {} | {} | {} | {} | {} | {} |",
        stage.name,
        seconds(spread.median),
        seconds(spread.min),
        seconds(spread.max),
        seconds(spread.mad),
        spread.n,
        or_nothing(
            stage
                .flops
                .map(|flops| format!("{:.1}", flops as f64 / 1e9))
        ),
        or_nothing(stage.flops_per_second.map(flops)),
        or_nothing(
            stage
                .peak_share
                .map(|share| format!("{:.0} %", 100.0 * share))
        ),
    )
}

/// The table of two models.
///
/// `roles`: what the two are called, the one whose speed is told first.
pub fn comparison_table(comparison: &Comparison, roles: [&str; 2]) -> String {
    let mut text = String::new();
    let [model, against] = roles;
    for (role, turns) in [(model, &comparison.model), (against, &comparison.against)] {
        if let Some(report) = turns.first() {
            let peak = turns
                .iter()
                .flat_map(|turn| &turn.cases)
                .filter_map(|case| case.memory)
                .reduce(|one, other| MemoryPeak {
                    anonymous_bytes: one.anonymous_bytes.max(other.anonymous_bytes),
                    file_backed_bytes: one.file_backed_bytes.max(other.file_backed_bytes),
                });
            let _ = writeln!(text, "{role}: {}drawn{}\n", head(report), memory(peak));
        }
    }
    let _ = writeln!(
        text,
        "| size | stage | {model} | {against} | ratio, pair by pair | median |\n|---|---|--:|--:|---|--:|"
    );
    for ratio in &comparison.ratios {
        let pairs: Vec<String> = ratio
            .pairs
            .iter()
            .map(|pair| format!("{pair:.2}"))
            .collect();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {:.2}× |",
            ratio.size,
            ratio.stage,
            seconds(super::Spread::of(&ratio.seconds).median),
            seconds(super::Spread::of(&ratio.against_seconds).median),
            pairs.join(" "),
            ratio.median,
        );
    }
    text
}

fn memory(peak: Option<MemoryPeak>) -> String {
    peak.map_or_else(String::new, |peak| {
        format!(
            " · peak memory {} anonymous, {} file-backed",
            gibibytes(peak.anonymous_bytes),
            gibibytes(peak.file_backed_bytes)
        )
    })
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}

fn flops(per_second: f64) -> String {
    format!("{:.0} GFLOP/s", per_second / 1e9)
}

/// Three digits that matter.
fn seconds(seconds: f64) -> String {
    match seconds {
        long if long >= 10.0 => format!("{long:.1} s"),
        some if some >= 1.0 => format!("{some:.2} s"),
        short if short >= 0.01 => format!("{:.0} ms", 1e3 * short),
        tiny => format!("{:.2} ms", 1e3 * tiny),
    }
}
