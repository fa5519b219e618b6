/** Sends inputs to all parts, in this process or in several. */
import { fork } from 'node:child_process';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { AGENT } from './agent.ts';
import { CERTIFICATES, ENROLLING } from './certificates.ts';
import { DRIVER } from './driver.ts';
import { ENROLMENT } from './enrolment.ts';
import { type Outcome, type Part, runPart } from './part.ts';
import { TESTIMONY } from './testimony.ts';
import { LISTENERS, SERVERS } from './wire.ts';
import { DOCKER, KERNEL, TEXTS } from './witness.ts';

export const PARTS: readonly Part[] = [
  ...[
    DRIVER,
    AGENT,
    ENROLMENT,
    ENROLLING,
    CERTIFICATES,
    TESTIMONY,
    LISTENERS,
    SERVERS,
    TEXTS,
    KERNEL,
    DOCKER,
  ],
];

const WORKER = '--fuzz-worker';

/** The most inputs between two measurements of the heap, and that repeat a failure. */
const CHUNK = 25_000;

interface Work {
  readonly part: string;
  readonly seed: number;
  readonly inputs: number;
}
export interface Attack {
  readonly seed: number;
  readonly inputs: number;
  /** The only part; null: all. */
  readonly only: string | null;
  /** Processes beside this one; 0: none. */
  readonly jobs: number;
  readonly told: (outcome: Outcome) => void;
}

/** Resolves when all is done, or when a rule was broken. */
export async function attack({ seed, inputs, only, jobs, told }: Attack): Promise<void> {
  const waiting = workOf(seed, inputs, only);
  let isOver = false;
  const take = () => (isOver ? undefined : waiting.shift());
  const tell = (outcome: Outcome) => {
    isOver ||= outcome.failure !== null;
    told(outcome);
  };
  if (jobs === 0) for (let work = take(); work !== undefined; work = take()) tell(await carriedOut(work));
  else await Promise.all(Array.from({ length: jobs }, () => drive(take, tell)));
}

function workOf(seed: number, inputs: number, only: string | null): Work[] {
  const parts = PARTS.filter(({ name }) => only === null || name === only);
  const shares = parts.reduce((sum, { share }) => sum + share, 0);
  return parts.flatMap(({ name, share }) => {
    const own = Math.ceil((inputs * share) / shares);
    return Array.from({ length: Math.ceil(own / CHUNK) }, (_, i) => ({
      part: name,
      seed: seed + i,
      inputs: Math.min(CHUNK, own - i * CHUNK),
    }));
  });
}

async function carriedOut({ part, seed, inputs }: Work): Promise<Outcome> {
  const found = PARTS.find(({ name }) => name === part);
  if (found === undefined) throw new Error(`there is no part ${part}`);
  return await runPart(found, seed, inputs);
}

/** Runs a process until there is nothing more to do. A thread would have no umask of its own, which a socket needs. */
function drive(take: () => Work | undefined, tell: (outcome: Outcome) => void): Promise<void> {
  const worker = fork(fileURLToPath(import.meta.url), [WORKER]);
  return new Promise((resolve, reject) => {
    let isOver = false;
    const give = () => {
      const work = take();
      if (work !== undefined) worker.send(work);
      else {
        isOver = true;
        worker.disconnect();
      }
    };
    worker.on('exit', () => (isOver ? resolve() : reject(new Error('a process ended with its work undone'))));
    worker.on('message', outcome => {
      tell(outcome as Outcome);
      give();
    });
    give();
  });
}

if (process.argv[2] === WORKER)
  process.on('message', async work => process.send?.(await carriedOut(work as Work)));
