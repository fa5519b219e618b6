/** Tries on a real ENI what is believed of EC2, and takes everything off it again. */
import { refusal } from '../cloud/refusals.ts';
import { CARRIED_KINDS, type Change, type ShownEni, type VerbatimEc2 } from '../cloud/verbatim.ts';
import { type ErrorCode, IpamError, isError } from '../domain/error.ts';
import type { EniId } from '../domain/ids.ts';
import { type Facts, lookAt } from './facts.ts';
import type { Journal } from './journal.ts';
import type { Meter } from './meter.ts';
import { type Call, STEPS, type Step } from './steps.ts';

/** EC2's refusal word for word; null: EC2 did it. */
export type Verdict = { readonly code: string; readonly text: string } | null;

export interface Tried {
  readonly name: string;
  readonly call: Call;
  readonly because: string;
  readonly expected: Verdict;
  /** Undefined: there was no answer. */
  readonly seen: Verdict | undefined;
  /** What the program takes the answer for. */
  readonly ours: ErrorCode | 'done';
  /** From the answer until a description showed it, in milliseconds; null: none did in the time. Absent: not looked for. */
  readonly shownAfterMs?: number | null;
}

export interface Outcome {
  readonly tried: readonly Tried[];
  readonly leftOut: readonly { readonly name: string; readonly why: string }[];
  /** Why the ENI may not be as it was before; null: EC2 has shown twice that it is. */
  readonly unclean: string | null;
  /** A change had no answer: it may be applied later. */
  readonly inDoubt: boolean;
}

export interface Run {
  readonly verbatim: VerbatimEc2;
  readonly meter: Meter;
  readonly journal: Journal;
  readonly clock: () => number;
  /** Ends the trials; what is on the ENI is taken off all the same. */
  readonly signal: AbortSignal;
  /** Called before each step with the number of those that are over. */
  readonly progress?: (done: number, total: number) => void;
}

/** Descriptions after a change, one a second. */
const LOOKS_MAX = 4;
/** What is kept for the clean-up: an unassign of each kind, if the trials leave as many, and descriptions. */
const KEPT_CHANGES = 1;
const KEPT_CALLS = 6;
const CLEAN_LOOKS = 2;
/** Before each but the first, since a description may be late. */
const SETTLE_MS = 10_000;
/** Descriptions with which a clean-up ends, if the meter allows as many. */
const CLEAN_UP_LOOKS_MAX = 20;

/** The steps of this run, each with its call, or why it is left out. */
export const planOf = (facts: Facts, withPrefixes: boolean): { step: Step; call: Call | string }[] =>
  STEPS.filter(step => withPrefixes || !step.ofPrefixes).map(step => ({ step, call: step.ask(facts) }));

/** Makes the plan's calls, one after the other. Never throws what EC2 or the network does. */
export async function tryOut(facts: Facts, plan: ReturnType<typeof planOf>, run: Run): Promise<Outcome> {
  const { meter, signal } = run;
  const tried: Tried[] = [];
  const leftOut: { name: string; why: string }[] = [];
  const sent: Change[] = [];
  let stopped: string | null = null;
  for (const [index, { step, call }] of plan.entries()) {
    run.progress?.(index, plan.length);
    if (signal.aborted) stopped ??= 'interrupted';
    if (!meter.has(1 + KEPT_CALLS, 1 + KEPT_CHANGES)) stopped ??= 'no more calls are allowed';
    const why = typeof call === 'string' ? call : stopped;
    if (typeof call === 'string' || why !== null) {
      leftOut.push({ name: step.name, why: why ?? '' });
      continue;
    }
    if (call.verb !== 'describe') sent.push(call);
    const one = await tryStep(facts, step, call, run);
    tried.push(one);
    if (one.seen === undefined) stopped = 'a call before it had no answer';
    else if (step.isNeeded && one.seen !== null) stopped = 'EC2 refused what the others need';
  }
  const inDoubt = tried.some(one => one.seen === undefined && one.ours === 'ec2-unknown');
  return { tried, leftOut, unclean: await cleanUp(facts.eni, sent, run), inDoubt };
}

async function tryStep(facts: Facts, step: Step, call: Call, run: Run): Promise<Tried> {
  const refused = step.expects(facts);
  const expected = refused && { code: refused.code, text: refused.message };
  const head = { name: step.name, call, because: step.because, expected };
  try {
    const answer = await send(call, run);
    const answeredAt = run.clock();
    const seen = answer.code === null ? null : answer;
    const ours = seen === null ? 'done' : refusal(seen.code, seen.text).code;
    // What EC2 refused is looked for only where it is to have changed nothing.
    const isLookedFor =
      step.shows === 'unchanged' ? seen !== null : step.shows !== undefined && seen === null;
    if (!isLookedFor || call.verb === 'describe') return { ...head, seen, ours };
    return { ...head, seen, ours, shownAfterMs: await watch(call, step.shows === 'shown', answeredAt, run) };
  } catch (error) {
    if (!(error instanceof IpamError)) throw error;
    return { ...head, seen: undefined, ours: error.code };
  }
}

async function send(call: Call, { verbatim, meter, journal }: Run) {
  if (call.verb === 'describe') return await meter.read(() => verbatim.eni(call.eni));
  return await meter.change(() => {
    journal.note(call);
    return verbatim.change(call);
  });
}

/** Looks until the names are shown, or are not; a batch that was refused must not be shown in part. */
async function watch(
  { eni, kind, names }: Change,
  wanted: boolean,
  answeredAt: number,
  { verbatim, meter, clock }: Run,
): Promise<number | null> {
  for (let looks = 0; looks < LOOKS_MAX && meter.has(1 + KEPT_CALLS, 0); looks++) {
    const shown = await lookAt(eni, verbatim, meter).catch(ofEc2);
    if (shown instanceof IpamError) continue;
    const isShown = (name: string) => shown.carried[kind].includes(name);
    if (wanted ? names.every(isShown) : !names.some(isShown)) return Math.round(clock() - answeredAt);
  }
  return null;
}

function ofEc2(error: unknown): IpamError {
  if (error instanceof IpamError) return error;
  throw error;
}

/**
 * Takes off the ENI what these changes may have put there, and nothing else, until EC2 shows twice that none of it is
 * there. Returns why that is not so, or null.
 */
export async function cleanUp(eni: EniId, changes: readonly Change[], run: Run): Promise<string | null> {
  const { verbatim, meter } = run;
  const asked = changes.filter(one => one.eni === eni && one.verb === 'assign');
  let clean = 0;
  let left = '';
  for (let looks = 0; looks < CLEAN_UP_LOOKS_MAX; looks++) {
    const shown = await lookAt(eni, verbatim, meter).catch(ofEc2);
    if (isError(shown, 'exhausted', 'ec2-not-found')) return `${eni} is not known to be clean: ${shown.line}`;
    if (shown instanceof IpamError) continue;
    const rest = leftovers(eni, asked, shown);
    left = rest.flatMap(({ names }) => names).join(', ');
    clean = rest.length === 0 ? clean + 1 : 0;
    if (clean === CLEAN_LOOKS) return null;
    // A refusal may come of a late description: the next one tells.
    for (const change of rest) {
      const answer = await send(change, run).catch(ofEc2);
      if (isError(answer, 'exhausted')) return `${eni} still has ${left}: ${answer.line}`;
    }
    meter.pause(SETTLE_MS);
  }
  return left === '' ? `EC2 did not show ${eni} often enough` : `${eni} still has ${left}`;
}

function leftovers(eni: EniId, asked: readonly Change[], { primary, carried }: ShownEni): Change[] {
  return CARRIED_KINDS.flatMap((kind): Change[] => {
    const mayBeOurs = new Set(asked.filter(one => one.kind === kind).flatMap(one => one.names));
    const names = carried[kind].filter(name => mayBeOurs.has(name) && name !== primary);
    return names.length === 0 ? [] : [{ verb: 'unassign', kind, eni, names }];
  });
}
