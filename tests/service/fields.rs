//! Every field of a drawing request at every kind of value, and texts that are hostile: each answer is a documented one.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Server, Studio, send};

const DRAWING: [&str; 4] = [
    "/v1/images",
    "/v1/images/generations",
    "/v1/images/estimate",
    "/v1/jobs",
];

async fn post(server: &Server, path: &str, body: impl Into<Vec<u8>>) -> Answer {
    let request = server.request(Method::POST, path);
    let request = request.header("content-type", "application/json");
    send(request.body(body.into())).await
}

/// What a field takes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Takes {
    /// A text that has to be there; one that says something, where it is OpenAI's.
    Prompt,
    /// A whole number, or -1 for any.
    Seed,
    /// Any text.
    Text,
    /// `WxH`.
    Size,
    /// One of two, both of them needed.
    Side,
    Integer(u64, u64),
    Number(f64, f64),
    /// Above 0, and this at most.
    Seconds(f64),
    /// Above 0; and what is shorter than a picture takes is too short.
    Deadline,
    /// One of a few.
    Word,
    Switch,
    /// The name of a model.
    Model,
}

/// The fields and what they take.
const FIELDS: [(&str, Takes); 26] = [
    ("prompt", Takes::Prompt),
    ("negative_prompt", Takes::Text),
    ("size", Takes::Size),
    ("width", Takes::Side),
    ("height", Takes::Side),
    ("num_inference_steps", Takes::Integer(1, 50)),
    ("steps", Takes::Integer(1, 50)),
    ("step", Takes::Integer(1, 50)),
    ("guidance_scale", Takes::Number(0.0, 50.0)),
    ("cfg_scale", Takes::Number(0.0, 50.0)),
    ("seed", Takes::Seed),
    ("rng_seed", Takes::Seed),
    ("n", Takes::Integer(1, 10)),
    ("scheduler", Takes::Word),
    ("decoder", Takes::Word),
    ("output_format", Takes::Word),
    ("output_compression", Takes::Integer(0, 100)),
    ("response_format", Takes::Word),
    ("deadline_seconds", Takes::Deadline),
    ("abandon_after_seconds", Takes::Seconds(3600.0)),
    ("stream", Takes::Switch),
    ("partial_images", Takes::Integer(0, 3)),
    ("resolution_binning", Takes::Switch),
    ("clean_caption", Takes::Switch),
    ("embed_prompt", Takes::Switch),
    ("model", Takes::Model),
];

/// Values that every field is given, as JSON.
const VALUES: [&str; 15] = [
    "null",
    "\"\"",
    "true",
    "0",
    "-1",
    "1.5",
    "4.0",
    "2147483648",
    "9007199254740993",
    "9223372036854775808",
    "18446744073709551616",
    "1e309",
    "[]",
    "{}",
    "\"x\"",
];

/// How a field is answered.
#[derive(Debug, PartialEq)]
enum Expected {
    Taken,
    Refused(&'static str),
}

fn expected(path: &str, takes: Takes, json: &str) -> Expected {
    use Expected::{Refused, Taken};
    let invalid = Refused("invalid_value");
    if json == "1e309" {
        return Refused("invalid_json");
    }
    let value: Value = serde_json::from_str(json).unwrap();
    if value.is_null() {
        return match takes {
            Takes::Prompt => Refused("missing_field"),
            _ => Taken,
        };
    }
    let number = value.as_f64();
    let is_taken = match takes {
        Takes::Prompt => value == "x" || (value == "" && path != "/v1/images/generations"),
        Takes::Seed if value == -1 => true,
        Takes::Seed => return expected(path, Takes::Integer(0, u64::MAX), json),
        Takes::Text => value.is_string(),
        Takes::Size | Takes::Word => false,
        Takes::Side => {
            let whole = number.is_some_and(|it| it.fract() == 0.0 && (1.0..=2048.0).contains(&it));
            // The other one is not there.
            return Refused(if whole {
                "missing_field"
            } else {
                "invalid_value"
            });
        }
        Takes::Integer(least, most) => match value.as_u64() {
            Some(number) => (least..=most).contains(&number),
            // A float is taken where it is whole and small enough to be exact.
            None => number.is_some_and(|it| {
                it.fract() == 0.0 && it >= least as f64 && it <= most.min(1 << 52) as f64
            }),
        },
        Takes::Number(least, most) => number.is_some_and(|it| (least..=most).contains(&it)),
        Takes::Seconds(most) => number.is_some_and(|it| it > 0.0 && it <= most),
        Takes::Deadline => {
            if number.is_some_and(|it| it > 0.0 && it < 4.0) {
                return Refused("deadline_too_short");
            }
            number.is_some_and(|it| it > 0.0 && it <= 86_400.0)
        }
        Takes::Switch => value.is_boolean(),
        Takes::Model => {
            if value == "x" {
                return Refused("model_not_found");
            }
            value == ""
        }
    };
    if is_taken { Taken } else { invalid }
}

#[tokio::test]
async fn every_field_at_every_kind_of_value_is_taken_or_refused_by_its_name() {
    let studio = Studio::open();
    // A step takes a second, as the studio tells it: the deadline of 1.5 s is too short for four, and that of 4 s is not.
    let flags = [("queue.capacity", "1000"), ("limits.max_steps", "50")];
    let server = Server::warm(&studio, &flags).await;
    for path in DRAWING {
        for (field, takes) in FIELDS {
            for json in VALUES {
                let case = format!("{path} {field}: {json}");
                let body = if field == "prompt" {
                    format!("{{\"prompt\": {json}}}")
                } else {
                    format!("{{\"prompt\": \"a red circle\", \"{field}\": {json}}}")
                };
                let answer = post(&server, path, body).await;
                let mut expected = expected(path, takes, json);
                if path == "/v1/images/estimate"
                    && expected == Expected::Refused("deadline_too_short")
                {
                    expected = Expected::Taken;
                }
                if (path, field, json) == ("/v1/jobs", "stream", "true") {
                    expected = Expected::Refused("invalid_value");
                }
                match expected {
                    Expected::Taken => {
                        let status = if path == "/v1/jobs" { 202 } else { 200 };
                        assert_eq!(answer.status, status, "{case}: {}", answer.text());
                        // Nobody looks at it.
                        if path == "/v1/jobs" {
                            server.delete(answer.header("location")).await.is(200);
                        }
                    }
                    Expected::Refused(code) => {
                        let error = answer.error();
                        assert_eq!(error["code"], code, "{case}");
                        let param = error["param"].as_str();
                        match (code, field) {
                            ("invalid_json", _) => assert_eq!(param, None, "{case}"),
                            ("missing_field", "width") => {
                                assert_eq!(param, Some("height"), "{case}");
                            }
                            ("missing_field", "height") => {
                                assert_eq!(param, Some("width"), "{case}");
                            }
                            _ => assert_eq!(param, Some(field), "{case}"),
                        }
                        let documented = match code {
                            "invalid_json" => 400,
                            "model_not_found" => 404,
                            "deadline_too_short" => 429,
                            _ => 422,
                        };
                        assert_eq!(answer.status, documented, "{case}");
                    }
                }
            }
        }
    }
    server.until_all_counted().await;
}

#[tokio::test]
async fn the_bounds_of_numbers_are_taken_and_their_neighbours_are_not() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[("limits.max_megapixel_steps", "100000")]).await;
    let estimate = async |body: &Value| server.post("/v1/images/estimate", body).await;
    for (field, least, most) in [
        ("n", 1_u64, 10_u64),
        ("output_compression", 0, 100),
        ("partial_images", 0, 3),
        ("guidance_scale", 0, 50),
        ("num_inference_steps", 1, 100),
    ] {
        for (value, fits) in [
            (json!(least), true),
            (json!(most), true),
            (json!(i64::try_from(least).unwrap() - 1), false),
            (json!(most + 1), false),
        ] {
            let body = json!({"prompt": "x", "scheduler": "dpmsolver++", field: value});
            let answer = estimate(&body).await;
            if fits {
                answer.is(200);
            } else {
                let error = answer.refused(422, "invalid_value");
                assert_eq!(error["param"], field);
            }
        }
    }
    for (size, fits) in [
        (json!({"size": "2048x2048"}), true),
        (json!({"size": "16X16"}), true),
        (json!({"width": 16, "height": 2048}), true),
        (json!({"size": "2049x2048"}), false),
        (json!({"size": "2064x2048"}), false),
        (json!({"size": "0x16"}), false),
        (json!({"size": "100x128"}), false),
        (json!({"size": "16x16x16"}), false),
        (json!({"size": "\u{ff11}6x16"}), false),
        (json!({"size": "99999999999999999999x16"}), false),
    ] {
        let mut body = size.clone();
        body["prompt"] = "x".into();
        let answer = estimate(&body).await;
        if fits {
            answer.is(200);
        } else {
            assert_eq!(
                answer.refused(422, "invalid_value")["param"],
                "size",
                "{size}"
            );
        }
    }
    // A scheduler may have fewer steps than the limit allows. Whatever refuses a value, it is called as it was sent.
    for name in ["num_inference_steps", "steps", "step"] {
        let body = json!({"prompt": "x", "scheduler": "lcm", name: 51});
        let error = estimate(&body).await.refused(422, "invalid_value");
        assert_eq!(error["param"], name);
    }
    for (width, height, name) in [
        (100, 128, "width"),
        (128, 100, "height"),
        (100, 100, "width"),
    ] {
        let body = json!({"prompt": "x", "width": width, "height": height});
        let error = estimate(&body).await.refused(422, "invalid_value");
        assert_eq!(error["param"], name);
    }
}

#[tokio::test]
async fn prompts_of_any_script_are_read_and_broken_ones_are_refused() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    let planes: Vec<String> = (0..=16_u32)
        .flat_map(|plane| {
            [0x10, 0x41, 0xa9, 0xd7ff, 0xe000, 0xfffd, 0xfffe, 0xffff].map(|low| plane << 16 | low)
        })
        .filter_map(char::from_u32)
        .map(|character| format!("{character} a circle"))
        .collect();
    for path in ["/v1/images", "/v1/images/estimate"] {
        for prompt in &planes {
            server
                .post(path, &json!({"prompt": prompt, "negative_prompt": prompt}))
                .await
                .is(200);
        }
        let all: String = planes.concat().chars().take(4096).collect();
        server
            .post(path, &json!({"prompt": all, "clean_caption": true}))
            .await
            .is(200);
        for (body, status, code) in [
            (
                &br#"{"prompt": "a \ud800 circle"}"#[..],
                400,
                "invalid_json",
            ),
            (
                br#"{"prompt": "a \udc00\ud800 circle"}"#,
                400,
                "invalid_json",
            ),
            (br#"{"prompt": "a \u0000 circle"}"#, 422, "invalid_value"),
            (b"{\"prompt\": \"a \0 circle\"}", 400, "invalid_json"),
            (b"{\"prompt\": \"a \xff circle\"}", 400, "invalid_json"),
            (b"{\"prompt\": \"a \xc0\xaf circle\"}", 400, "invalid_json"),
            (
                b"{\"prompt\": \"a \xed\xa0\x80 circle\"}",
                400,
                "invalid_json",
            ),
            (b"\xef\xbb\xbf{\"prompt\": \"a circle\"}", 200, ""),
            (b"{\0\"\0a\0\"\0:\x001\0}\0", 400, "invalid_json"),
            (br#"{"prompt": "a\tb \ud83c\udf35"}"#, 200, ""),
            (br#"{"prompt": " \u3000\n "}"#, 200, ""),
            (br#"{"prompt": ""}"#, 200, ""),
            (br#"{"prompt": "a circle"} {}"#, 400, "invalid_json"),
            (br#"{"prompt": "a circle",}"#, 400, "invalid_json"),
            (br#"{"prompt": 'a circle'}"#, 400, "invalid_json"),
            (
                br#"{"prompt": "a circle", "seed": NaN}"#,
                400,
                "invalid_json",
            ),
            (
                br#"{"prompt": "a circle", "seed": 01}"#,
                400,
                "invalid_json",
            ),
            (
                br#"{"prompt": "a circle", "prompt": "a square"}"#,
                422,
                "duplicate_field",
            ),
            (
                br#"{"prompt": "a circle", "seed": 1, "s\u0065ed": 1}"#,
                422,
                "duplicate_field",
            ),
            (br#"{"seed": 1}"#, 422, "missing_field"),
            (b"null", 400, "invalid_request"),
            (b"\"a circle\"", 400, "invalid_request"),
        ] {
            let answer = post(&server, path, body).await;
            if status == 200 {
                answer.is(200);
            } else {
                answer.refused(status, code);
            }
        }
        let exact = json!({"prompt": "\u{1f335}".repeat(4096)});
        server.post(path, &exact).await.is(200);
        let above = json!({"prompt": "\u{1f335}".repeat(4097)});
        let error = server
            .post(path, &above)
            .await
            .refused(422, "invalid_value");
        assert_eq!(error["param"], "prompt");
    }
    server.until_all_counted().await;
}

#[tokio::test]
async fn what_is_nested_ten_thousand_deep_is_refused_and_nobody_falls() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    for path in DRAWING {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
            for body in [
                deep.clone(),
                format!("{{\"prompt\": \"a circle\", \"extra\": {deep}}}"),
                format!("{{\"prompt\": {deep}}}"),
                open.repeat(10_000),
            ] {
                let answer = post(&server, path, body).await.is(400);
                let code = answer.error()["code"].clone();
                assert!(
                    code == "invalid_json" || code == "invalid_request",
                    "{code}"
                );
            }
        }
    }
    server.until_all_counted().await;
}

#[tokio::test]
async fn two_spellings_of_one_field_are_refused_and_unknown_ones_are_corrected() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    for path in DRAWING {
        for (fields, param) in [
            (json!({"steps": 4, "num_inference_steps": 4}), "steps"),
            (json!({"step": 4, "steps": 4}), "step"),
            (json!({"guidance_scale": 1, "cfg_scale": 1}), "cfg_scale"),
            (json!({"seed": 1, "rng_seed": 1}), "rng_seed"),
            (json!({"size": "16x16", "width": 16, "height": 16}), "width"),
        ] {
            let mut body = fields;
            body["prompt"] = "x".into();
            let error = server
                .post(path, &body)
                .await
                .refused(422, "conflicting_fields");
            assert_eq!(error["param"], param);
        }
        let body = json!({"prompt": "x", "negativ_prompt": "y"});
        let answer = server.post(path, &body).await;
        if path == "/v1/images/generations" {
            let warnings = &answer.is(200).json()["warnings"];
            assert_eq!(warnings[0]["code"], "ignored_field");
            assert_eq!(warnings[0]["param"], "negativ_prompt");
        } else {
            let error = answer.refused(422, "unknown_field");
            let message = error["message"].as_str().unwrap();
            assert!(
                message.contains("did you mean negative_prompt?"),
                "{message}"
            );
        }
    }
    server.until_all_counted().await;
}
