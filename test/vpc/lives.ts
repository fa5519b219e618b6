/** Who had which address at what time, and what the probers in the containers heard. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A container's time on its tenant's network. Times are milliseconds since 1970. */
export interface Life {
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

export class Lives {
  readonly #all: Life[] = [];

  get count(): number {
    return this.#all.length;
  }

  begin(name: string, ip: string, askedAt: number): Life {
    const life = {
      name,
      ip,
      askedAt,
      from: Date.now(),
      to: Number.POSITIVE_INFINITY,
      endedAt: Number.POSITIVE_INFINITY,
    };
    this.#all.push(life);
    return life;
  }

  /** How many addresses went to another container, and to another host, in the course of time. */
  reuse(): { again: number; elsewhere: number } {
    const hostOf = ({ name }: Life): string => name.split('-')[1] ?? '';
    const later = this.#all.flatMap((life, index) => {
      const former = this.#all.slice(0, index).findLast(({ ip }) => ip === life.ip);
      return former === undefined ? [] : [[former, life] as const];
    });
    return { again: later.length, elsewhere: later.filter(([a, b]) => hostOf(a) !== hostOf(b)).length };
  }

  /** Throws when an address had two holders at a time, or was answered by anybody but its holder, or when holders
   *  did not answer. Says how many answers there were. */
  judge(folders: readonly string[]): string {
    for (const [index, one] of this.#all.entries())
      for (const other of this.#all.slice(index + 1))
        if (one.ip === other.ip && one.from < other.to && other.from < one.to)
          throw new Error(`${one.name} and ${other.name} had ${one.ip} at the same time`);
    let asked = 0;
    let silent = 0;
    const mute: string[] = [];
    for (const folder of folders)
      for (const asker of readdirSync(join(folder, 'log')))
        for (const line of readFileSync(join(folder, 'log', asker), 'utf8')
          .split('\n')
          .filter(Boolean)) {
          const [begun = '', ended = '', ip = '', name = ''] = line.split(' ');
          const [from, to] = [Number(begun) * 1000 - SLACK_MS, Number(ended) * 1000 + SLACK_MS];
          asked++;
          if (name !== '') {
            if (
              !this.#all.some(
                life => life.name === name && life.ip === ip && life.askedAt <= to && from <= life.endedAt,
              )
            )
              throw new Error(`${asker} asked ${ip}, and ${name} answered, which had it not: ${line}`);
            continue;
          }
          silent++;
          const wasThere = (life: Life): boolean => life.from <= from && to <= life.to;
          if (
            this.#all.some(life => life.name === asker && wasThere(life)) &&
            this.#all.some(life => life.ip === ip && wasThere(life))
          )
            mute.push(`${asker} heard nothing of ${ip}: ${line}`);
        }
    if (asked - silent < ANSWERS_MIN)
      throw new Error(`the probers heard too little: ${asked - silent} answers`);
    if (mute.length > SILENT_PART_MAX * asked) throw new Error(`of ${asked} times: ${mute.join('; ')}`);
    return `probers asked ${asked} times: ${asked - silent} answers, each of the address's holder; ${silent} times nobody, of which ${mute.length} times both were there`;
  }
}
