// Goal: each event is one line that machines or people can read, and shows no secret. Method: a log that writes
// into an array, at a fixed time.
import { createLog, type LogOptions } from '../../../src/cli/terminal/logger.ts';
import { createProgress, table } from '../../../src/cli/terminal/output.ts';
import { IpamError } from '../../../src/domain/error.ts';
import type { LogLevel } from '../../../src/domain/log.ts';
import { keptIo } from '../../kit/cli.ts';
import { assert, suite } from '../../kit/uvu.ts';

function written(
  options: Partial<LogOptions>,
  ...event: [LogLevel, string, Record<string, unknown>?]
): string[] {
  const lines: string[] = [];
  const write = (line: string) => void lines.push(line);
  const now = () => Date.UTC(2026, 0, 2, 3, 4, 5, 6);
  createLog({ format: 'json', level: 'debug', isColored: true, write, now, ...options })(...event);
  return lines;
}
const json = (fields: Record<string, unknown>) => JSON.parse(written({}, 'info', 'm', fields)[0] ?? '');
const pretty = (message: string, fields: Record<string, unknown> = {}, level: LogLevel = 'info') =>
  written({ format: 'pretty' }, level, message, fields)[0] ?? '';

const logger = suite('log');
logger('JSON: time, level and message come first, then the fields', () => {
  assert.equal(written({}, 'warn', 'early reuse', { ip: '10.0.1.9', restedMs: 12 }), [
    '{"time":"2026-01-02T03:04:05.006Z","level":"warn","message":"early reuse","ip":"10.0.1.9","restedMs":12}\n',
  ]);
});

logger('pretty: one line, and quotes only where they are needed', () => {
  const fields = { eni: 'eni-0a', ips: ['10.0.1.9', '10.0.1.10'], holder: 'a b', none: null };
  const line = pretty('assigned', fields);
  assert.is(
    line,
    '03:04:05.006 \u001b[36minfo \u001b[0m assigned eni=eni-0a ips=10.0.1.9,10.0.1.10 holder="a b" none=null\n',
  );
});

logger('pretty, where no colors are wanted: has no codes', () => {
  assert.equal(written({ format: 'pretty', isColored: false }, 'warn', 'assigned', { ip: '10.0.1.9' }), [
    '03:04:05.006 warn  assigned ip=10.0.1.9\n',
  ]);
});

logger('a level: what is below it is not written', () => {
  const levels: LogLevel[] = ['debug', 'info', 'warn', 'error'];
  const kept = (least: LogLevel) =>
    levels.filter(level => written({ level: least }, level, 'm').length === 1);
  assert.equal(levels.map(kept), [levels, levels.slice(1), levels.slice(2), levels.slice(3)]);
});

logger('an error of ours: is its code and its line, without a stack', () => {
  const more = { hint: 'try again', cause: new Error('inner') };
  const error = new IpamError('ec2-taken', 'taken\nby others', more);
  const { time, level, message, ...fields } = json({ error });
  assert.equal(fields, { error: 'ec2-taken: taken by others; try again' });
});

logger('an error that nobody expected: has its stack, and that of its cause, in a field', () => {
  const { error, stack } = json({ error: new TypeError('no\nsuch', { cause: new Error('root') }) });
  assert.is(error, 'TypeError: no such');
  assert.match(stack, /logger\.test\.ts.* caused by root: .*logger\.test\.ts/);
  assert.not.match(stack, /\n/);
});

logger('a secret: is not written, under whatever name it comes', () => {
  const fields = {
    storePassword: 'hunter2',
    options: { secretAccessKey: 'hunter2', headers: { Authorization: 'hunter2' } },
    store: 'mysql://ipam:hunter2@db/ipam',
    error: new Error('connect mysql://ipam:hunter2@db/ipam'),
    credentials: ['hunter2'],
  };
  const text = JSON.stringify(json(fields));
  assert.not.match(text, /hunter2/);
  assert.match(text, /mysql:\/\/ipam:\*\*\*@db\/ipam/);
  assert.not.match(written({}, 'info', 'at mysql://a:hun@ter2@b')[0] ?? '', /ter2/);
  assert.not.match(written({}, 'info', 'at mysql://a:hunter2@b')[0] ?? '', /hunter2/);
});

logger('a name in a table: cannot forge a row, or move the columns', () => {
  const printed = table(['NAME', 'FOR'], [['web\n10.0.1.9  all is well\u001b[2J', '1s']]);
  assert.is(printed.split('\n').length, 3);
  assert.match(printed, 'web\\n10.0.1.9  all is well\\u001b[2J  1s\n');
});

logger('a text of others: cannot forge a line, color a terminal or take the place of a field of ours', () => {
  const line = pretty('a\nb', { holder: 'x\n03:04:05 info all is well\u001b[31m' }, 'error');
  assert.is(line.split('\n').length, 2);
  assert.is(line.split('\u001b').length, 3); // the two of the level
  assert.is(json({ level: 'error', time: 0, message: 'x' }).level, 'info');
});

logger('a field: whatever is in it, a line comes out, and no longer than it may be', () => {
  const circular: Record<string, unknown> = {};
  circular.self = circular;
  const fields = { big: 10n, missing: undefined, deep: circular, long: 'x'.repeat(9999) };
  const { big, missing, deep, long } = json(fields);
  assert.is(big, '10');
  assert.is(missing, undefined);
  assert.type(deep, 'object');
  assert.is(long.length, 4000);
});
logger.run();

type Step = [atMs: number, done: number, total: number | null];
function shown(isTerminal: boolean, ...steps: Step[]): string[] {
  const out: string[] = [];
  let now = 0;
  const write = (text: string) => void out.push(text);
  const screen = isTerminal
    ? { isColored: false, size: () => ({ columns: 80, rows: 24 }), draw: write }
    : null;
  const bar = createProgress({ ...keptIo().io.out, screen, write }, 'subnet-0a1', () => now);
  for (const [atMs, done, total] of steps) {
    now = atMs;
    bar.show('addresses written', done, total);
  }
  bar.end();
  return out;
}

const progressed = suite('progress');
progressed('on a terminal: a bar in one line that is cleared at the end', () => {
  assert.equal(shown(true, [200, 50, 200], [210, 60, 200], [400, 200, 200]), [
    '\r\u001b[Ksubnet-0a1 [########......................] 50 of 200 addresses written',
    `\r\u001b[Ksubnet-0a1 [${'#'.repeat(30)}] 200 of 200 addresses written`,
    '\r\u001b[K',
  ]);
});
progressed('elsewhere: a line now and then, without cursor codes', () => {
  const lines = shown(false, [200, 50, null], [5000, 60, null], [5100, 61, null]);
  assert.equal(lines, ['subnet-0a1: 60 addresses written\n']);
});
progressed('what is over at once: nothing is said of it', () => {
  assert.equal(shown(true, [50, 1, 1]), []);
});
progressed.run();
