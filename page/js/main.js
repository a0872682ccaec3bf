// The page as a whole: one drawing at a time from the form to the strip, and a way on from whatever goes wrong.

import { Failure, apiKey, json, useKey } from "./api.js";
import * as compare from "./compare.js";
import { byId, enter, leave, say } from "./dom.js";
import * as estimate from "./estimate.js";
import * as examples from "./examples.js";
import * as form from "./form.js";
import * as job from "./job.js";
import * as notice from "./notice.js";
import * as progress from "./progress.js";
import * as result from "./result.js";
import * as strip from "./strip.js";
import { sentence } from "./words.js";

/** The drawing that is under way: its job and what stops it. */
let under = null;

/** What the page says of each kind of failure that passes by itself. */
const PASSING = {
  full: ["The server is busy.", "Every place in its queue is taken."],
  draining: ["The server is shutting down.", "Another one may answer in its place."],
  loading: ["The server is not ready yet.", "It is loading its model."],
  offline: ["The server cannot be reached.", "It may have been stopped, or the network is down."],
};
/** What was waited for when a person stopped the trying. */
let stoppedAt = "offline";

/**
 * Does something again for as long as what hinders it passes: waits and counts down, asks for the key.
 * Resolves with null where a person has stopped the trying.
 */
async function patiently(act, signal) {
  for (let refusals = 0; ; ) {
    try {
      const answer = await act();
      if (refusals > 0) notice.clear();
      return answer;
    } catch (failure) {
      if (signal?.aborted || !(failure instanceof Failure)) throw failure;
      if (failure.kind === "key") {
        const key = await notice.askForKey(apiKey() ? "The key that it was given is not one of its own." : "Whoever runs it can give you one.", signal);
        if (key === null) {
          stoppedAt = "key";
          return null;
        }
        useKey(key);
      } else if (PASSING[failure.kind]) {
        progress.idle(failure.kind === "full" ? "Waiting for a place" : "Waiting for the server");
        const [title, text] = PASSING[failure.kind];
        if (!(await notice.countdown(failure.kind, title, text, failure.retryAfter ?? 3, signal))) {
          stoppedAt = failure.kind;
          return null;
        }
      } else {
        throw failure;
      }
      refusals += 1;
    }
  }
}

/** Draws what a request asks for; or, with a job that a reload has found, follows that. */
async function draw(request, found = null) {
  if (under) return;
  notice.clear();
  estimate.hold();
  closeCompare();
  const stop = new AbortController();
  const one = found ?? job.begin(request);
  under = { job: one, stop };
  progress.show(one, { asking: found ? "Looking for the picture" : "Asking the server" });
  busy(true);
  let first = null;
  let isLost = false;
  const see = {
    ...progress.see,
    picture(fresh) {
      const picture = strip.add(fresh);
      // The first is kept when the summary has told how long it waited.
      if (first) strip.keep(picture);
      else first = picture;
      byId("preview").hidden = true;
      show(picture);
    },
  };
  try {
    // A lost answer is asked for again with the same key, and is the same job.
    const summary = await patiently(async () => {
      if (!one.id) await job.ask(one, stop.signal);
      try {
        return await job.follow(one, see, stop.signal);
      } catch (failure) {
        // A server that shuts down has ended the job, and one that was started anew knows none: another one is asked for.
        if (failure.isEnd && PASSING[failure.kind]) one.id = null;
        if (failure.code !== "job_not_found" || isLost) throw failure;
        isLost = true;
        await job.ask(one, stop.signal);
        return job.follow(one, see, stop.signal);
      }
    }, stop.signal);
    if (summary === null) {
      under.left = job.takeBack(one);
      return settle(first, "idle");
    }
    job.forget();
    finish(summary, first);
    settle(first, "done");
  } catch (failure) {
    // What has not ended is drawn for nobody.
    if (failure.isEnd || failure.code === "job_not_found") job.forget();
    else if (!stop.signal.aborted) under.left = job.takeBack(one);
    if (stop.signal.aborted) {
      notice.tell("cancelled", "Cancelled.", progress.howFar());
      settle(first, "idle");
    } else {
      settle(first, "failed");
      fail(failure, one, found !== null);
    }
  }
}

function finish({ warnings = [], timings }, first) {
  if (!first) return;
  Object.assign(first, { waited: timings?.queue_wait_seconds ?? 0, warnings });
  if (result.current() === first) show(first);
  say("The picture is ready");
}

/** Back to rest. */
function settle(picture, state) {
  const { left } = under;
  if (picture) strip.keep(picture);
  under = null;
  busy(false);
  leave(byId("progress"), state === "done" ? byId("download") : null, byId("go"));
  progress.hide();
  Promise.resolve(left).then(() => under || estimate.now({ afresh: true }));
  enter(state === "idle" && picture ? "done" : state);
}

/** The button cannot be pressed twice, and keeps the focus. What is said of the former image stays. */
function busy(is) {
  byId("go").setAttribute("aria-disabled", is);
  if (is) leave(byId("result"), byId("cancel"));
  byId("head").hidden = is;
  byId("rest").inert = is;
  strip.hold(is);
}

/** A failure with words for it, also where this page itself has failed. */
function worded(failure) {
  if (failure instanceof Failure) return failure;
  console.error(failure);
  return new Failure("broken", "This page has met something that it was not made for.");
}

/** Says in words why there is no picture, and offers a way on. */
function fail(failure, { request }, wasFound) {
  failure = worded(failure);
  const again = ["Try again", () => draw(request)];
  if (failure.code === "job_not_found" || failure.code === "job_cancelled") {
    const text = failure.code === "job_not_found" ? "The server knows nothing of it any more: it may have been restarted." : "It was stopped, since nobody followed it or somebody took it back.";
    notice.tell("broken", wasFound ? "The picture that was being drawn is gone." : "The picture is gone.", text, ["Draw it again", again[1]]);
  } else if (failure.kind === "invalid") {
    notice.tell("invalid", "This cannot be drawn.", sentence(failure.message));
    if (failure.param) form.focusOn(failure.param);
  } else if (failure.kind === "refused") {
    notice.tell("refused", "The server refuses this picture.", sentence(failure.message), again);
  } else {
    notice.tell(failure.kind, "That did not work.", sentence(failure.message), again);
  }
}

function show(picture) {
  compare.close();
  byId("single").hidden = false;
  result.show(picture);
  strip.mark(picture.id);
}

function closeCompare() {
  if (!compare.isOpen()) return;
  byId("single").hidden = false;
  byId("result").hidden = !result.current();
  const thumb = byId("thumbs").querySelector('[tabindex="0"]');
  leave(byId("compare"), thumb, byId("go"));
  compare.close();
}

/** The picture on show beside this one; where that is the same, the next one of the strip. */
function compareWith(picture) {
  const other = result.current()?.id === picture.id ? strip.all().find(({ id }) => id !== picture.id) : result.current();
  if (under) return say("Compare when the drawing has ended");
  if (!other) return notice.tell("hint", "It takes two pictures to compare.", "");
  byId("single").hidden = true;
  byId("result").hidden = true;
  compare.open(other, picture);
  byId("compare").scrollIntoView({ block: "nearest" });
  byId("reveal").focus({ preventScroll: true });
}

function submit() {
  if (under) return;
  const request = form.request();
  const problem = form.problem(request);
  if (problem) {
    notice.tell("invalid", "This cannot be drawn.", problem.text);
    form.focusOn(problem.field);
    return;
  }
  form.spend();
  const { top, bottom } = byId("single").getBoundingClientRect();
  // On a phone the picture is out of sight while one writes.
  if (top > innerHeight / 2 || bottom < innerHeight / 2) byId("stage").scrollIntoView({ block: "start" });
  draw(request);
}

/** Draws what an earlier picture was drawn with, with another seed where one is given. */
function redraw(seed) {
  const { request } = result.current();
  form.fill({ negative_prompt: "", ...request, n: 1, seed });
  submit();
}

byId("draw").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
byId("cancel").addEventListener("click", () => cancel());
byId("again").addEventListener("click", () => redraw(result.current().request.seed));
byId("vary").addEventListener("click", () => redraw(String(BigInt.asUintN(64, BigInt(result.current().request.seed) + 1n))));
byId("close-compare").addEventListener("click", closeCompare);
addEventListener("keydown", (event) => {
  // An input method, or something that is open, has its own use for the key.
  if (event.isComposing || event.defaultPrevented) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && byId("draw").contains(event.target)) submit();
  else if (event.key === "Escape" && under) cancel();
  else if (event.key === "Escape" && compare.isOpen()) closeCompare();
  else if (event.key === "Escape") notice.clear();
});

function cancel() {
  if (!under) return;
  under.left = job.takeBack(under.job);
  under.stop.abort();
}

/** Builds the page from what the service says of itself; waits for it where it is not there yet. */
async function start() {
  let facts;
  try {
    facts = await patiently(() => json("v1/capabilities"));
    if (facts !== null && !facts.model) throw new Failure("broken", "The server's answer is not one that this page understands.");
    if (facts !== null) build(facts);
  } catch (caught) {
    const failure = worded(caught);
    enter("failed");
    notice.tell(failure.kind, "The page could not begin.", sentence(failure.message), ["Try again", start]);
    return;
  }
  if (facts === null) {
    enter("failed");
    const [title] = PASSING[stoppedAt] ?? ["This server asks for a key."];
    notice.tell(stoppedAt, title, "Nothing can be drawn until then.", ["Try again", start]);
    return;
  }
  const found = job.leftBehind();
  if (found) {
    loadStrip();
    draw(found.request, found);
    return;
  }
  enter("idle");
  estimate.now();
  await loadStrip();
  const [latest] = strip.all();
  if (latest && !result.current() && !under) show(latest);
}

function build(facts) {
  examples.show(facts.model.name, (example) => {
    form.fill(example);
    byId("prompt").focus();
  });
  form.build(facts, estimate.later);
}

const loadStrip = () =>
  strip.load({ show, compare: compareWith, cleared: result.empty });

start();
