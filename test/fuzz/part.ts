/** A part of the fuzz: what it is sent, how it is checked, and how its memory is measured. */
import process from 'node:process';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Log } from '../../src/domain/log.ts';
import { Hostile } from './hostile.ts';

/** What is sent inputs. */
export interface Target {
  /** Makes an input, sends it, and throws when the answer breaks a rule. */
  input(hostile: Hostile): Promise<void> | void;
  /** Lets what goes on without its caller come to its end. Before the heap is measured. */
  rest?(): Promise<void>;
  /** Throws when what is left breaks a rule. */
  end(): Promise<void>;
}

export interface Scene {
  /** Counts a kind of answer. The counts are shown at the end. */
  note(kind: string): void;
  /** Takes note of a broken rule. */
  wrong(what: string): void;
  /** Counts inputs that were sent beside the one. */
  more(inputs: number): void;
}

export interface Part {
  readonly name: string;
  /** Its part of all inputs, in per mille. */
  readonly share: number;
  /** Inputs at a time. */
  readonly lanes: number;
  open(scene: Scene): Promise<Target>;
}

export interface Outcome {
  readonly part: string;
  readonly seed: number;
  /** That it was to get, and that it got until a rule was broken. */
  readonly planned: number;
  readonly inputs: number;
  readonly seconds: number;
  /** Of the heap, from the first third of the inputs on; null: it cannot be measured here. */
  readonly grownMb: number | null;
  readonly kinds: Readonly<Record<string, number>>;
  /** Null: no rule was broken. */
  readonly failure: string | null;
}

/** What caches may still gain after a third of the inputs. */
const GROWN_MAX_MB = 12;

/** Sends so many inputs to the part. Never throws. */
export async function runPart(part: Part, seed: number, inputs: number): Promise<Outcome> {
  const startedAt = performance.now();
  const kinds: Record<string, number> = {};
  let failure: string | null = null;
  let sent = 0;
  const wrong = (what: string) => {
    failure ??= `input ${sent}: ${what}`;
  };
  const rejected = (reason: unknown) => wrong(`unhandled rejection: ${shownError(reason)}`);
  process.on('unhandledRejection', rejected);
  let early: number | null = null;
  let late: number | null = null;
  try {
    const target = await part.open({
      note(kind) {
        kinds[kind] = (kinds[kind] ?? 0) + 1;
      },
      wrong,
      more(count) {
        sent += count;
      },
    });
    const lane = async (hostile: Hostile, until: number) => {
      while (sent < until && failure === null) {
        sent++;
        await target.input(hostile);
      }
    };
    const lanes = Array.from({ length: part.lanes }, (_, i) => new Hostile(seed * 1000 + i));
    const run = async (until: number) =>
      void (await Promise.all(
        lanes.map(hostile => lane(hostile, until).catch(error => wrong(shownError(error)))),
      ));
    await run(Math.ceil(inputs / 3));
    await target.rest?.();
    early = await heapMb();
    await run(inputs);
    await target.rest?.();
    late = await heapMb();
    await target.end();
  } catch (error) {
    wrong(shownError(error));
  }
  await new Promise(resolve => setTimeout(resolve, 1)); // for what was rejected last
  process.off('unhandledRejection', rejected);
  const grownMb = early === null || late === null ? null : late - early;
  if (grownMb !== null && grownMb > GROWN_MAX_MB) wrong(`the heap has grown by ${grownMb.toFixed(1)} MB`);
  const seconds = (performance.now() - startedAt) / 1000;
  return { part: part.name, seed, planned: inputs, inputs: sent, seconds, grownMb, kinds, failure };
}

const shownError = (error: unknown): string =>
  error instanceof Error ? (error.stack ?? error.message) : String(error);

let collect: (() => void) | null | undefined;
/** What the heap has in use after a collection, in megabytes. */
async function heapMb(): Promise<number | null> {
  collect ??= collector();
  if (collect === null) return null;
  for (let rounds = 0; rounds < 3; rounds++) {
    collect();
    await new Promise(resolve => setTimeout(resolve, 1)); // what is finalized lets go of more
  }
  return process.memoryUsage().heapUsed / 1e6;
}

function collector(): (() => void) | null {
  const { Bun } = globalThis as { Bun?: { gc(isSync: boolean): void } };
  if (Bun !== undefined) return () => Bun.gc(true);
  try {
    setFlagsFromString('--expose-gc');
    return runInNewContext('gc');
  } catch {
    return null;
  }
}

const ANSWER_CHARS_MAX = 5000;
const UNSAFE = /[\p{Cc}\p{Cs}\u2028\u2029\u202a-\u202e\u2066-\u2069]/u;
/** What no client may learn of the program. */
export const INSIDES =
  /\bat \S+ \(|node:internal|\.m?[jt]s:\d+|\b(select|update|insert into|delete from)\b[^"]*`|PRIVATE KEY|hunter2|internal error/i;

/** Throws unless this is what a client may be answered: one JSON object in one line, short, and an error in it without
 *  insides of the program and without control characters. Returns it. */
export function checkedAnswer(text: string): Readonly<Record<string, unknown>> {
  const fail = (why: string): never => {
    throw new Error(`${why}: ${JSON.stringify(text.slice(0, 1000))}`);
  };
  if (text.length > ANSWER_CHARS_MAX) fail(`an answer of ${text.length} characters`);
  if (/[^\n]\n./.test(text)) fail('an answer of several lines');
  if (INSIDES.test(text)) fail('an answer with insides');
  let unsafe = '';
  let body: unknown;
  try {
    body = JSON.parse(text, (key, value) => {
      for (const one of [key, value]) if (typeof one === 'string' && UNSAFE.test(one)) unsafe = one;
      return value;
    });
  } catch {
    fail('an answer that is not JSON');
  }
  if (unsafe !== '') fail('an answer with control characters');
  if (body === null || typeof body !== 'object' || Array.isArray(body)) fail('an answer that is no object');
  const answer = body as Record<string, unknown>;
  if ('Error' in answer && typeof answer.Error !== 'string') fail('an error that is no text');
  return answer;
}

/** Throws unless an error of ours says it in one short line. */
export function checkedLine(line: string): void {
  if (line.length > ANSWER_CHARS_MAX || UNSAFE.test(line) || INSIDES.test(line))
    throw new Error(`a line that is not for people: ${JSON.stringify(line.slice(0, 1000))}`);
}

/** A log in which an error breaks a rule. */
export const logInto =
  (wrong: Scene['wrong']): Log =>
  (level, message, { error } = {}) => {
    if (level === 'error') wrong(`${message}: ${error instanceof Error ? error.stack : error}`);
  };
