// moto as a subprocess: an EC2 that was written by others, as witness that the wire format is EC2's.
import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import process from 'node:process';
import { setTimeout as wait } from 'node:timers/promises';

// By its full path: other Pythons may be first in PATH.
const MOTO = '/usr/bin/moto_server';
const START_LIMIT_MS = 60_000;

/** Starts moto on a free port of loopback. */
export async function startMoto(): Promise<{ endpoint: string; stop(): Promise<void> }> {
  const port = await freePort();
  const endpoint = `http://127.0.0.1:${port}`;
  const child = spawn(MOTO, ['-H', '127.0.0.1', '-p', String(port)], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', chunk => {
    said = (said + chunk).slice(-2000);
  });
  const ended = new Promise<void>(resolve => child.once('exit', () => resolve()));
  const kill = () => void child.kill('SIGKILL');
  process.once('exit', kill);
  for (const startedAt = performance.now(); !(await answers(endpoint)); await wait(50))
    if (child.exitCode !== null || performance.now() - startedAt > START_LIMIT_MS) {
      kill();
      throw new Error(`moto did not start: ${said}`);
    }
  return {
    endpoint,
    stop: async () => {
      kill();
      process.off('exit', kill);
      await ended;
    },
  };
}

const answers = (endpoint: string): Promise<boolean> =>
  fetch(`${endpoint}/moto-api/`).then(
    answer => answer.body?.cancel().then(() => answer.ok) ?? answer.ok,
    () => false,
  );

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => (typeof address === 'object' && address ? resolve(address.port) : reject()));
    });
  });
}
