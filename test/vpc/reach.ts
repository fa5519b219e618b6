/** Pings between places, and a table of who reaches whom. */
import { table } from '../../src/cli/terminal/output.ts';
import type { Result } from '../kit/docker/netns.ts';
import type { Command } from './instance.ts';

/** Somewhere that commands can be run, with a name for the table. */
export interface Place {
  readonly name: string;
  run(command: Command): Promise<Result>;
}
export interface Target {
  readonly name: string;
  readonly ip: string;
}
/** No: the pings were sent, and none was answered. Anything else is an error. */
export type Answer = 'yes' | 'no';

const PINGS = 2;
const PING_WAIT_S = 2;

/** Pings all targets at once. Throws if a ping did not run to its end. */
export async function pingAll(from: Place, targets: readonly Target[]): Promise<Map<string, Answer>> {
  const script = `for ip; do (ping -q -c ${PINGS} -W ${PING_WAIT_S} $ip 2>&1 | sed "s/^/$ip /") & done; wait`;
  const { stdout } = await from.run(['sh', '-c', script, 'ping', ...targets.map(({ ip }) => ip)]);
  return new Map(
    targets.map(({ name, ip }) => {
      const lines = stdout
        .split('\n')
        .filter(line => line.startsWith(`${ip} `))
        .join('\n');
      const received = lines.match(/ (\d+) packets transmitted, (\d+) packets received/);
      if (received === null || Number(received[1]) < 1)
        throw new Error(`${from.name} → ${name} (${ip}): ping did not run: ${lines || 'it said nothing'}`);
      return [name, Number(received[2]) > 0 ? 'yes' : 'no'];
    }),
  );
}

/** Throws when one of the targets does not answer. */
export async function mustReach(from: Place, targets: readonly Target[]): Promise<void> {
  const lost = [...(await pingAll(from, targets))]
    .filter(([, answer]) => answer === 'no')
    .map(([name]) => name);
  if (lost.length > 0) throw new Error(`${from.name} does not reach ${lost}`);
}

/** What was found and what was not expected, as a table: a row for each place, a column for each target. */
export class Table {
  readonly #rows = new Map<string, Map<string, string>>();
  readonly #wrong: string[] = [];

  put(from: string, to: string, found: Answer, expected: Answer): void {
    const row = this.#rows.get(from) ?? new Map<string, string>();
    this.#rows.set(from, row.set(to, found === expected ? found : `${found.toUpperCase()}!`));
    if (found !== expected) this.#wrong.push(`${from} → ${to}: ${found}, expected ${expected}`);
  }

  /** Pings all targets, of which the same is expected. */
  async ping(from: Place, targets: readonly Target[], expected: Answer): Promise<void> {
    for (const [to, answer] of await pingAll(from, targets)) this.put(from.name, to, answer, expected);
  }

  /** Throws if something was not as expected. */
  check(): void {
    if (this.#wrong.length > 0) throw new Error(this.#wrong.join('; '));
  }

  toString(): string {
    const columns = [...new Set([...this.#rows.values()].flatMap(row => [...row.keys()]))];
    const rows = [...this.#rows].map(([from, row]) => [from, ...columns.map(to => row.get(to) ?? '')]);
    return table(['from \\ to', ...columns], rows).trimEnd();
  }
}
