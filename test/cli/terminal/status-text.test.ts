// Goal: what `status` prints can be read at any width, tells problems first, and nothing in a name reaches the terminal
// as a code. Method: a report with one of everything, laid out for several widths.

import { statusLines } from '../../../src/cli/terminal/status-text.ts';
import { drawn, type Line, tableLines, wrapped } from '../../../src/cli/terminal/styled.ts';
import type { SubnetId } from '../../../src/domain/ids.ts';
import type { LedgerReport, ReportLine } from '../../../src/views/report.ts';
import { assert, suite } from '../../kit/uvu.ts';

const SUBNET = 'subnet-0a1b2c3d4e5f60001' as SubnetId;
const counts = { free: 90, assigning: 1, ready: 9, allocated: 5, unassigning: 0, occupied: 1, reserved: 6 };
const line = (more: Partial<ReportLine> = {}): ReportLine => ({
  subnet: SUBNET,
  ip: '10.0.1.9',
  eni: 'eni-0a1b2c3d4e5f60001',
  container: 'web',
  containerId: null,
  sinceMs: 61_000,
  ...more,
});
const report = (more: Partial<LedgerReport> = {}): LedgerReport => ({
  subnets: [{ id: SUBNET, vpc: 'vpc-1', cidr: '10.0.1.0/24', counts }],
  holders: [line()],
  suspects: [{ ...line(), why: 'server 1 died around the time it gave this address' }],
  unseen: [{ ...line(), unseenMs: 5000, readings: 2 }],
  withheld: [{ ...line(), finding: 'process 9 (runc init)' }],
  endedByEvidence: 4,
  reserved: [
    { subnet: SUBNET, addresses: '10.0.1.20-10.0.1.25', count: 6, sinceMs: 0, why: 'for the printer' },
  ],
  drift: [{ ...line(), what: 'held, but missing from its ENI' }],
  tenants: [{ name: 'red', quota: 5, used: 5, profile: null }],
  hosts: [{ instance: '', readMs: 1000, incomplete: 'a runtime that hides addresses' }],
  servers: [
    { id: 'aaaa', version: '1.2.3', seenMs: 1000, stopped: false },
    { id: 'bbbb', version: '1.2.2', seenMs: 120_000, stopped: false },
    { id: 'cccc', version: null, seenMs: 120_000, stopped: true },
  ],
  ...more,
});
const text = (columns = Number.POSITIVE_INFINITY, more: Partial<LedgerReport> = {}) =>
  drawn(statusLines(report(more), columns), false);
const widest = (shown: string) => Math.max(...shown.split('\n').map(one => one.length));

const status = suite('status as text');
status('problems come first, then subnets, reserved ranges with their reason, and all holders last', () => {
  const titles = text()
    .split('\n')
    .filter(one => /^[A-Z][a-z].*[a-z]/.test(one));
  assert.equal(titles, [
    'Suspects: held, but perhaps without a container',
    'Not seen: held, but in use nowhere on the host',
    'Withheld: in use on the host, but not held',
    'Drift',
    'Servers that went away',
    'Reserved by operators',
    'Tenants',
    'Hosts read by their witness',
    'Holdings ended by evidence of the host: 4',
    'Holders',
  ]);
  assert.match(text(), /\n10\.0\.1\.20-10\.0\.1\.25 .* for the printer\n/);
  assert.match(text(), /SERVER {2}VERSION {2}SEEN\nbbbb {4}1\.2\.2 {4}2m ago\n\n/);
});

status('a server of the release before: is listed without a version', () => {
  const servers = [{ id: 'dddd', version: null, seenMs: 120_000, stopped: false }];
  assert.match(text(undefined, { servers }), /\ndddd {4}- {8}2m ago\n/);
});

status('a container: is told by its name, else by its id', () => {
  const containerId = 'c0ffee123456789'.padEnd(64, '0');
  const holders = [line({ containerId }), line({ container: null, containerId }), line({ container: null })];
  const shown = text(undefined, { holders }).split('\n').slice(-4, -1);
  assert.equal(
    shown.map(one => one.split(/ +/)[3]),
    ['web', 'c0ffee123456', '-'],
  );
});

status('without problems: begins with the subnets, in how full they are', () => {
  const none = { suspects: [], unseen: [], withheld: [], drift: [], servers: [] };
  assert.match(
    text(undefined, none),
    /^SUBNET +CIDR +USED +FREE .*\nsubnet-0a1b2c3d4e5f60001 +10\.0\.1\.0\/24 +7% +90 /,
  );
});

for (const columns of [40, 80, 120])
  status(`at ${columns} columns: no line is longer, and nothing is lost`, () => {
    const [wide, narrow] = [text(), text(columns)];
    assert.ok(widest(narrow) <= columns, narrow);
    const words = new Set(narrow.split(/[\s,]+/));
    for (const word of wide.split(/[\s,]+/))
      assert.ok(
        words.has(word) ||
          /^(SUBNET|[A-Z]+ING|FREE|READY|ALLOCATED|OCCUPIED|RESERVED|CIDR|USED|0)$/.test(word),
        word,
      );
  });

status('at 40 columns: an address is followed by what does not fit beside it', () => {
  const narrow = text(40);
  assert.match(
    narrow,
    /Holders\nADDRESS {3}ENI\n {2}CONTAINER, FOR\n10\.0\.1\.9 {2}eni-\w+\n {2}web, 1m1s\n$/,
  );
  assert.match(
    narrow,
    /\nsubnet-\w+ 10\.0\.1\.0\/24 7%\nused\n {2}90 free, 9 ready, 5 allocated, 1\n {2}occupied, 6 reserved, 1 assigning\n/,
  );
  const [subnet] = report().subnets;
  const two = { subnets: subnet === undefined ? [] : [subnet, { ...subnet, id: 'subnet-2' }] };
  assert.match(
    text(40, two),
    /Holders\nADDRESS {3}SUBNET\n {2}ENI, CONTAINER, FOR\n10\.0\.1\.9 {2}subnet-\w+\n/,
  );
});

const HOSTILE = 'web\u001b[2J\u009b31m\u0007\r\n10.0.1.8  all is well\u202e\u0000';
status('a hostile name: reaches no terminal as a code, moves no column and makes no line', () => {
  const shown = drawn(statusLines(report({ holders: [line({ container: HOSTILE })] }), 80), true);
  const codes = shown.match(/\p{Cc}\[\d+m/gu) ?? [];
  assert.ok(codes.length > 10);
  assert.not.match(shown.replaceAll(/\p{Cc}\[\d+m|\n/gu, ''), /\p{Cc}|\u202e/u);
  assert.match(shown, 'web\\u001b[2J\\u009b31m\\u0007\\u000d\\n10.0.1.8');
});

status('colors: only where they are wanted, and each ends in its line', () => {
  assert.not.match(text(), '\u001b');
  for (const one of drawn(statusLines(report(), 80), true).split('\n'))
    assert.is((one.match(/\p{Cc}\[[1-9]\d?m/gu) ?? []).length, (one.match(/\p{Cc}\[0m/gu) ?? []).length);
});

status('of many holders: lays out as many as are asked for', () => {
  const holders = Array.from({ length: 500 }, (_, i) => line({ ip: `10.0.1.${i}` }));
  const shown = drawn(
    statusLines(report({ holders, unseen: [], suspects: [], withheld: [], drift: [] }), 80, 20),
    false,
  );
  assert.is(shown.match(/^10\.0\.1\.\d+ +eni-\S+ +web +1m1s$/gm)?.length, 20);
});

status('wide letters take two cells, marks none', () => {
  const rows = [
    ['日本', 'x'],
    ['e\u0301', 'x'],
    ['abcd', 'x'],
  ];
  assert.is(drawn(tableLines(['A', 'B'], rows, 80), false), 'A     B\n日本  x\ne\u0301     x\nabcd  x\n');
});

status('a word that is longer than a line is cut, at any width', () => {
  const texts = (lines: Line[]) => lines.map(pieces => pieces.map(one => one.text).join(''));
  assert.equal(texts(wrapped([{ text: 'a bcdefg h' }], 4)), ['a', 'bcde', 'fg h']);
  assert.equal(texts(wrapped([{ text: '日本' }], 1)), ['日', '本']);
  assert.equal(texts(wrapped([{ text: '  ' }], 4)), []);
  for (let columns = 1; columns < 40; columns++) assert.ok(text(columns).length > 0);
});
status.run();
