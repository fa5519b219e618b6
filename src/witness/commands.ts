/** Runs the commands `nsenter`, `unshare` and `ip` of the host. */
import { execFile } from 'node:child_process';
import process from 'node:process';
import { IpamError } from '../domain/error.ts';

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}
/** Runs a command to its end. Throws unavailable when it cannot be run. */
export type Run = (command: readonly string[], signal: AbortSignal) => Promise<Ran>;

const OUTPUT_BYTES_MAX = 16 * 1024 * 1024;

export const run: Run = ([file = '', ...args], signal) =>
  new Promise((resolve, reject) => {
    const options = { signal, maxBuffer: OUTPUT_BYTES_MAX, env: { ...process.env, LC_ALL: 'C' } };
    execFile(file, args, options, (error, stdout, stderr) => {
      if (error === null) resolve({ code: 0, stdout, stderr });
      else if (typeof error.code === 'number') resolve({ code: error.code, stdout, stderr });
      else if (signal.aborted) reject(signal.reason);
      else reject(new IpamError('unavailable', `${file} cannot be run: ${error.code ?? error.message}`));
    });
  });
