/** Start rows: how long a process needs to its first answer, and what it keeps of memory when nothing is asked. */
import { freePort } from '../../test/kit/servers/bundle.ts';
import type { Runtime } from '../tiers.ts';
import { errorIn, exchangeOnce } from './connection.ts';
import { NOOP_PATH, noopFor } from './load.ts';
import { buildNoop } from './noop-bundle.ts';
import { type Program, pause, residentBytes, start } from './program.ts';
import { type Bench, median } from './rows.ts';
import { eniName } from './stand.ts';

const STARTS = { full: 5, quick: 1 };
const IDLE_MS = { full: 500, quick: 200 };
const ANSWER_LIMIT_MS = 20_000;
const TRY_EVERY_MS = 1;
const BYTES_PER_MB = 1024 * 1024;

interface Start {
  readonly answerMs: number;
  readonly idleMb: number;
}

export async function starts(bench: Bench): Promise<void> {
  const noop = await buildNoop(bench.folder);
  const size = bench.plan.quick ? 'quick' : 'full';
  for (const runtime of bench.plan.runtimes) {
    bench.progress(`start on ${runtime}`);
    const ours: Start[] = [];
    const noops: Start[] = [];
    // In turns, so that what else the machine does strikes both.
    for (let i = 0; i < STARTS[size]; i++) {
      noops.push(await once(runtime, noop, port => [`${port}`], {}, null, IDLE_MS[size]));
      const { env } = await bench.stores('sqlite');
      const args = (port: number) => ['serve', '--listen', `http://127.0.0.1:${port}`];
      ours.push(await once(runtime, bench.program, args, env, 'the ledger is open', IDLE_MS[size]));
    }
    bench.found({
      what: 'start',
      runtime,
      firstAnswerMs: median(ours.map(one => one.answerMs)),
      idleResidentMb: median(ours.map(one => one.idleMb)),
      noopFirstAnswerMs: median(noops.map(one => one.answerMs)),
      noopIdleResidentMb: median(noops.map(one => one.idleMb)),
    });
  }
}

async function once(
  runtime: Runtime,
  script: string,
  args: (port: number) => readonly string[],
  env: Readonly<Record<string, string>>,
  idleWhenItSays: string | null,
  idleMs: number,
): Promise<Start> {
  const port = await freePort();
  const startedAt = performance.now();
  const program = start(runtime, script, args(port), env);
  try {
    await firstAnswer(program, `http://127.0.0.1:${port}`);
    const answerMs = performance.now() - startedAt;
    if (idleWhenItSays !== null) await program.says(idleWhenItSays);
    await pause(idleMs);
    return { answerMs, idleMb: residentBytes(program.pid) / BYTES_PER_MB };
  } finally {
    await program.stop();
  }
}

/** Asks until somebody listens. */
async function firstAnswer(program: Program, url: string): Promise<void> {
  const limit = performance.now() + ANSWER_LIMIT_MS;
  for (;;) {
    const response = await exchangeOnce(url, noopFor(eniName(0))).catch((error: Error) => error);
    if (typeof response === 'string') {
      const error = errorIn(response);
      if (error !== null) throw new Error(`${NOOP_PATH}: ${error}`);
      return;
    }
    if (performance.now() > limit)
      throw new Error(`no answer from ${url}: ${program.output()}`, { cause: response });
    await pause(TRY_EVERY_MS);
  }
}
