/** Who reaches whom, and how that is shown. */
import type { Result } from '../kit/docker/netns.ts';

/** Somewhere that commands can be run, with a name for the table. */
export interface Place {
  readonly name: string;
  run(command: readonly string[]): Promise<Result>;
}
export interface Target {
  readonly name: string;
  readonly ip: string;
}
/** Lost: the pings went out and came to nothing. Anything else that is not an answer is an error, not a "no". */
export type Answer = 'yes' | 'no';

const PINGS = 2;
const PING_WAIT_S = 2;

/** Pings all targets at once. Throws where a ping did not run to its end. */
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

  /** Throws when something was not as expected. */
  check(): void {
    if (this.#wrong.length > 0) throw new Error(this.#wrong.join('; '));
  }

  toString(): string {
    const columns = [...new Set([...this.#rows.values()].flatMap(row => [...row.keys()]))];
    const lines = [...this.#rows].map(([from, row]) => [
      from,
      ...columns.map(column => row.get(column) ?? ''),
    ]);
    const all = [['from \\ to', ...columns], ...lines];
    const widths = all[0]?.map((_, index) => Math.max(...all.map(line => line[index]?.length ?? 0))) ?? [];
    return all
      .map(line => `| ${line.map((cell, index) => cell.padEnd(widths[index] ?? 0)).join(' | ')} |`)
      .join('\n');
  }
}
