/** Hostile inputs from a seed: texts, JSON and bytes that nobody should send, and wrong changes of what is valid. */
import { Random } from '../kit/random.ts';

/** Stands in a value for JSON that no value makes. */
const RAW = '\u0001raw';
const RAW_TEXT = JSON.stringify(RAW);

const ENI_TEXTS = [
  'eni-',
  'eni-0A',
  `eni-${'0'.repeat(4000)}`,
  'eni-0a;range=',
  'eni-0a;v6',
  'eni-0a;;',
  'i-0a',
];
const ADDRESS_TEXTS = [
  ...[
    '999.1.1.1',
    '10.0.1.4294967296',
    '0x0a000001',
    '010.0.1.7',
    '::1',
    '10.0.1.7/24',
    '10.0.1.7\u0000',
    '١.0.1.7',
  ],
  ...['10.0.1.0/24', '0.0.0.0/0', '10.0.1.1/25', '10.0.1.0/-1', '10.0.1.0/1e1', '10.0.1.255', ' 10.0.1.7'],
];
const ODD_TEXTS = [
  ...[
    '',
    ' ',
    '\u0000',
    '\ud800',
    '\udfff\ud800',
    '\u202etxt.exe',
    '\u2028',
    '\ufeff',
    'e\u0301'.repeat(200),
  ],
  ...[
    '\u001b[2J\u001b]0;owned\u0007',
    'a\r\nSet-Cookie: x',
    '%00%0d%0a',
    '../../etc/passwd',
    '\u0085\u009b31m',
  ],
  ...["' OR 1=1 --", '`; DROP TABLE allocation; --', '$(reboot)', '__proto__', 'constructor', 'toString'],
  ...['NaN', '-1', '1e308', '99999999999999999999', 'null', '[object Object]'],
];
const NUMBERS = [0, -0, -1, 0.1, 1e308, 5e-324, 2 ** 53, -(2 ** 31), 2 ** 32];
const KEYS = [
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'length',
  '',
  '\u0000',
  'then',
  'x'.repeat(500),
];
const LENGTHS = [0, 1, 255, 256, 500, 501, 4000, 9000];
const RAWS = [
  ...[
    '1e999',
    '-1e999',
    '01',
    '0x10',
    'NaN',
    'undefined',
    "'x'",
    '"\t"',
    '"\\ud800"',
    '"\\u0000"',
    '"\\x"',
    '{"a":1,"a":2}',
  ],
  ...['{"__proto__":{"x":1}}', '[1,]', '{,}', '/**/1', '\ufeff1', '9'.repeat(3000), `1.${'0'.repeat(3000)}`],
  ...[
    '['.repeat(5000),
    `${'['.repeat(5000)}${']'.repeat(5000)}`,
    `${'{"a":'.repeat(3000)}1${'}'.repeat(3000)}`,
  ],
];

const encoder = new TextEncoder();

export class Hostile {
  readonly random: Random;
  constructor(seed: number) {
    this.random = new Random(seed);
  }

  below = (bound: number): number => this.random.below(bound);
  chance = (probability: number): boolean => this.random.chance(probability);
  oneOf<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }

  text(): string {
    const kind = this.below(10);
    if (kind < 4) return this.oneOf(ODD_TEXTS);
    if (kind < 6) return this.oneOf(ENI_TEXTS);
    if (kind < 8) return this.oneOf(ADDRESS_TEXTS);
    if (kind < 9) return this.oneOf(['x', 'é', '😀', '\u0000']).repeat(this.oneOf(LENGTHS));
    return String.fromCharCode(...Array.from({ length: this.below(20) }, () => this.below(0x10000)));
  }

  /** Any JSON, no deeper than so. */
  value(depth = 3): unknown {
    const kind = this.below(depth > 0 ? 8 : 5);
    if (kind < 2) return this.text();
    if (kind < 3) return this.oneOf(NUMBERS);
    if (kind < 4) return this.oneOf([true, false, null]);
    if (kind < 5) return RAW;
    if (kind < 6) return Array.from({ length: this.below(4) }, () => this.value(depth - 1));
    const entries = Array.from({ length: this.below(4) }, () => [this.key(), this.value(depth - 1)] as const);
    return Object.fromEntries(entries);
  }

  key = (): string => (this.chance(0.5) ? this.oneOf(KEYS) : this.text());

  /** A copy with something wrong in one place, or in several. */
  mutated(value: unknown): unknown {
    if (value === null || typeof value !== 'object' || this.chance(0.1)) return this.instead(value);
    if (Array.isArray(value)) {
      const at = this.below(value.length + 1);
      return this.chance(0.3)
        ? [...value, this.value(1)]
        : value.map((one, index) => (index === at ? this.mutated(one) : one));
    }
    const entries = Object.entries(value);
    const at = this.below(entries.length + 1);
    const one = entries[at];
    if (one === undefined || this.chance(0.1)) entries.push([this.key(), this.value(1)]);
    else if (this.chance(0.15)) entries.splice(at, 1);
    else one[1] = this.mutated(one[1]);
    return Object.fromEntries(entries);
  }

  private instead(value: unknown): unknown {
    if (typeof value !== 'string' || this.chance(0.4)) return this.value(2);
    const at = this.below(value.length + 1);
    const [before, after] = [value.slice(0, at), value.slice(at)];
    if (this.chance(0.5)) return before + this.oneOf([...ODD_TEXTS, '0', '.', ';', '/']) + after;
    return this.chance(0.5) ? before + after.slice(1) : value.repeat(2);
  }

  /** The value as JSON, with what no value makes in the places for it. */
  json = (value: unknown): string =>
    (JSON.stringify(value) ?? '').replaceAll(RAW_TEXT, () => this.oneOf(RAWS));

  /** A copy with some bytes changed, cut out or doubled. */
  spoilt(bytes: Uint8Array): Uint8Array {
    let copy = Uint8Array.from(bytes);
    for (let times = 1 + this.below(3); times > 0; times--) {
      const at = this.below(copy.length + 1);
      const kind = this.below(6);
      if (kind < 2) copy[at] = this.below(256);
      else if (kind < 3) copy[at] = (copy[at] ?? 0) ^ (1 << this.below(8));
      else if (kind < 4) copy = copy.slice(0, at);
      else if (kind < 5) copy = joined(copy.slice(0, at), copy.slice(at + this.below(9)));
      else copy = joined(copy.slice(0, at), this.bytes(8), copy.slice(at));
    }
    return copy;
  }

  bytes = (max: number): Uint8Array => Uint8Array.from({ length: this.below(max) }, () => this.below(256));

  /** A body: the value half of the time, else something that is like it, or not. */
  body(valid: unknown): Uint8Array {
    const kind = this.below(20);
    if (kind < 10) return encoder.encode(JSON.stringify(valid) ?? '');
    if (kind < 16) return encoder.encode(this.json(this.mutated(valid)));
    if (kind < 18) return this.spoilt(encoder.encode(JSON.stringify(valid) ?? ''));
    if (kind < 19) return encoder.encode(this.json(this.value()));
    return this.oneOf([
      new Uint8Array(),
      this.bytes(300),
      encoder.encode(this.oneOf(RAWS)),
      encoder.encode(`\ufeff${JSON.stringify(valid)}`),
      encoder.encode(`${JSON.stringify(valid)}${JSON.stringify(valid)}`),
    ]);
  }
}

export function joined(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
