/** When each container had which address, and what the probers in the containers heard. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A container's time on its tenant's network. Times are milliseconds since 1970. */
export interface Lifetime {
  readonly name: string;
  readonly ip: string;
  /** It may have had the address since. */
  readonly askedAt: number;
  /** Between these two nobody else may have it. */
  readonly from: number;
  to: number;
  /** From here on it has the address no more. */
  endedAt: number;
}

/** What a prober writes down: when it began to ask, when it had asked, the address, and who answered. */
export const PROBE = `echo $NAME >/index.html
httpd -p 80 -h /
while :; do
  for ip in $(cat /probe/$TENANT); do
    begun=$(date +%s)
    name=$(wget -q -T 2 -O - http://$ip/index.html 2>/dev/null)
    echo "$begun $(date +%s) $ip $name" >>/probe/log/$NAME
    sleep 0.5
  done
  sleep 0.5
done`;

/** The probers' clock shows whole seconds, and a frame may be under way. */
const SLACK_MS = 1500;
const ANSWERS_MIN = 10;
/** Emulated processors may be too slow for a prober's patience. */
const SILENT_PART_MAX = 0.1;

export class Lifetimes {
  readonly #all: Lifetime[] = [];

  get count(): number {
    return this.#all.length;
  }

  begin(name: string, ip: string, askedAt: number): Lifetime {
    const [from, to] = [Date.now(), Number.POSITIVE_INFINITY];
    const lifetime: Lifetime = { name, ip, askedAt, from, to, endedAt: to };
    this.#all.push(lifetime);
    return lifetime;
  }

  /** How many addresses went to another container, and to another host, in the course of time. */
  reuse(): { again: number; elsewhere: number } {
    const hostOf = ({ name }: Lifetime): string => name.split('-')[1] ?? '';
    const later = this.#all.flatMap((lifetime, index) => {
      const former = this.#all.slice(0, index).findLast(({ ip }) => ip === lifetime.ip);
      return former === undefined ? [] : [[former, lifetime] as const];
    });
    return { again: later.length, elsewhere: later.filter(([a, b]) => hostOf(a) !== hostOf(b)).length };
  }

  /** Throws if an address had two holders at a time, or was answered by anybody but its holder, or if holders did not
   *  answer. Returns how many answers there were. */
  judge(folders: readonly string[]): string {
    for (const [index, one] of this.#all.entries())
      for (const other of this.#all.slice(index + 1))
        if (one.ip === other.ip && one.from < other.to && other.from < one.to)
          throw new Error(`${one.name} and ${other.name} had ${one.ip} at the same time`);
    const asked = folders.flatMap(questionsIn);
    const silent = asked.filter(({ name }) => name === '');
    const wrong = asked.find(({ name, ip, from, to }) => {
      const mayAnswer = (one: Lifetime) =>
        one.name === name && one.ip === ip && one.askedAt <= to && from <= one.endedAt;
      return name !== '' && !this.#all.some(mayAnswer);
    });
    if (wrong !== undefined)
      throw new Error(`${wrong.asker} was answered by ${wrong.name}, which had it not: ${wrong.line}`);
    const answers = asked.length - silent.length;
    if (answers < ANSWERS_MIN) throw new Error(`the probers heard too little: ${answers} answers`);
    const unanswered = silent.filter(({ asker, ip, from, to }) => {
      const there = this.#all.filter(one => one.from <= from && to <= one.to);
      return there.some(one => one.name === asker) && there.some(one => one.ip === ip);
    });
    if (unanswered.length > SILENT_PART_MAX * asked.length) {
      const lines = unanswered.map(({ asker, line }) => `${asker} heard nothing: ${line}`);
      throw new Error(`of ${asked.length} times: ${lines.join('; ')}`);
    }
    return (
      `probers asked ${asked.length} times: ${answers} answers, each of the address's holder; ` +
      `${silent.length} times nobody, of which ${unanswered.length} times both were there`
    );
  }
}

/** What the probers of a host wrote down. */
function questionsIn(folder: string) {
  const log = join(folder, 'log');
  return readdirSync(log).flatMap(asker => {
    const lines = readFileSync(join(log, asker), 'utf8').split('\n').filter(Boolean);
    return lines.map(line => {
      const [begun = '', ended = '', ip = '', name = ''] = line.split(' ');
      return {
        asker,
        line,
        ip,
        name,
        from: Number(begun) * 1000 - SLACK_MS,
        to: Number(ended) * 1000 + SLACK_MS,
      };
    });
  });
}
