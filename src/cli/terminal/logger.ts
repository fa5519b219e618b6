/** The log: one JSON object a line, or one line of text for people. */
import { IpamError } from '../../domain/error.ts';
import { LOG_LEVELS, type Log, type LogLevel } from '../../domain/log.ts';
import { cleaned, masked } from '../../domain/text.ts';

export interface LogOptions {
  readonly format: 'json' | 'pretty';
  /** The lowest level that is written. */
  readonly level: LogLevel;
  /** Of the format for people. */
  readonly isColored: boolean;
  /** Gets whole lines. */
  readonly write: (line: string) => void;
  /** The time of day, in milliseconds since 1970. */
  readonly now: () => number;
}

const TEXT_CHARACTERS_MAX = 4000;
const DEPTH_MAX = 4;
const SECRET_NAME = /password|secret|credential|authorization/i;

/** Secrets are masked, by the names of fields and in URLs. */
export function createLog({ format, level, isColored, write, now }: LogOptions): Log {
  const least = LOG_LEVELS.indexOf(level);
  const render = format === 'json' ? renderJson : renderPretty(isColored);
  return (at, message, fields = {}) => {
    if (LOG_LEVELS.indexOf(at) >= least)
      write(`${render(new Date(now()).toISOString(), at, clean(message), plain(fields))}\n`);
  };
}

type Fields = Readonly<Record<string, unknown>>;

const renderJson = (time: string, level: LogLevel, message: string, fields: Fields): string =>
  JSON.stringify({ time, level, message, ...fields });

const COLORS: Readonly<Record<LogLevel, string>> = { debug: '2', info: '36', warn: '33', error: '31' };

const renderPretty =
  (isColored: boolean) =>
  (time: string, level: LogLevel, message: string, fields: Fields): string => {
    const parts = Object.entries(fields).map(([name, value]) => `${name}=${pretty(value)}`);
    const word = level.padEnd(5);
    const label = isColored ? `\u001b[${COLORS[level]}m${word}\u001b[0m` : word;
    return [time.slice(11, 23), label, message, ...parts].join(' ');
  };

function pretty(value: unknown): string {
  if (Array.isArray(value) && value.every(one => typeof one === 'string')) return value.map(pretty).join(',');
  const isBare = typeof value === 'string' && /^[^\s"=,]+$/.test(value);
  return isBare ? value : JSON.stringify(value);
}

const RESERVED = ['time', 'level', 'message'];

/** Converts fields to JSON values. An error becomes one line. The stack is added only for an unexpected error. */
function plain(fields: Fields): Fields {
  const result: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined || RESERVED.includes(name)) continue;
    result[name] = SECRET_NAME.test(name) ? '***' : plainValue(value, 1);
    if (value instanceof Error && !(value instanceof IpamError)) result.stack = clean(stackOf(value));
  }
  return result;
}

function plainValue(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return clean(value);
  if (value === null || typeof value === 'number' || typeof value === 'boolean') return value;
  if (value instanceof IpamError) return clean(`${value.code}: ${value.line}`);
  if (value instanceof Error) return clean(`${value.name}: ${value.message}`);
  if (typeof value !== 'object' || depth > DEPTH_MAX) return clean(String(value));
  if (Array.isArray(value)) return value.map(one => plainValue(one, depth + 1));
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [
      name,
      SECRET_NAME.test(name) ? '***' : plainValue(inner, depth + 1),
    ]),
  );
}

/** The stack frames of an error and of its causes, in one line. */
function stackOf(error: Error): string {
  const frames = (error.stack ?? '')
    .split('\n')
    .filter(line => /^\s*at |@/.test(line))
    .map(line => line.trim());
  const { cause } = error;
  return frames.join(' ') + (cause instanceof Error ? ` caused by ${cause.message}: ${stackOf(cause)}` : '');
}

// Names come from Docker and messages from EC2. Neither may end a line or send codes to a terminal.
const clean = (text: string): string =>
  cleaned(masked(text.slice(0, 2 * TEXT_CHARACTERS_MAX)), TEXT_CHARACTERS_MAX);
