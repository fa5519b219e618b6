// moto as a subprocess: an EC2 that was written by others, as witness that the wire format is EC2's.
import { until } from '../wait.ts';
import { freePort, startProgram } from './process.ts';

// By its full path: other Pythons may be first in PATH.
const MOTO = '/usr/bin/moto_server';
const START_LIMIT_MS = 60_000;

/** Starts moto on a free port of loopback. */
export async function startMoto(): Promise<{ endpoint: string; stop(): Promise<void> }> {
  const port = await freePort();
  const endpoint = `http://127.0.0.1:${port}`;
  const moto = startProgram(MOTO, ['-H', '127.0.0.1', '-p', String(port)]);
  const answers = async () => {
    if (moto.hasEnded()) throw new Error(`moto did not start: ${moto.output()}`);
    const answer = await fetch(`${endpoint}/moto-api/`).catch(() => null);
    await answer?.body?.cancel();
    return answer?.ok === true;
  };
  await until('moto answers', answers, START_LIMIT_MS);
  return { endpoint, stop: moto.kill9 };
}
