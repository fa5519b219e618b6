// Goal: what is watched is redrawn in place on a terminal, printed anew elsewhere, survives a failing reading, and ends
// with Ctrl-C or its reader. Method: a reading and a pause that the test controls.
import type { Output, Screen } from '../../../src/cli/command.ts';
import { watch } from '../../../src/cli/terminal/watch.ts';
import { IpamError } from '../../../src/domain/error.ts';
import { keptIo } from '../../kit/cli.ts';
import { assert, suite } from '../../kit/uvu.ts';

interface Options {
  readonly columns?: number;
  readonly rows?: number;
  readonly asJson?: boolean;
  readonly reader?: (turn: number) => ReturnType<Output['reader']>;
}
type Turn = readonly string[] | Error;

/** Watches so many turns, then stops as Ctrl-C does. Returns what was written, by turn, and what was logged. */
async function watched(turns: readonly Turn[], { columns, rows = 24, asJson = false, reader }: Options = {}) {
  const stop = new AbortController();
  const frames: string[] = turns.map(() => '');
  const logged: string[] = [];
  let turn = 0;
  const write = (text: string) => {
    frames[turn] += text;
  };
  const screen: Screen | null =
    columns === undefined ? null : { isColored: false, size: () => ({ columns, rows }), draw: write };
  const { io } = keptIo();
  await watch({
    read: async () => {
      const now = turns[turn];
      if (now === undefined || now instanceof Error) throw now;
      return now;
    },
    lines: texts => texts.map(text => [{ text }]),
    title: 'it',
    asJson,
    everyMs: 5000,
    io: { signal: stop.signal, out: { ...io.out, screen, write, reader: () => reader?.(turn) ?? 'reads' } },
    log: (_, message) => void logged.push(message),
    now: () => turn * 5000,
    wait: async ms => {
      assert.is(ms, 5000);
      if (++turn === turns.length) stop.abort();
    },
  });
  return { frames, logged, turn };
}
const AWAY = new IpamError('store-down', 'the ledger cannot be used');

const watching = suite('watch');
watching(
  'on a terminal: clears it once, then draws over what was there, and leaves no mode behind',
  async () => {
    const { frames } = await watched([['a', 'long line'], ['b']], { columns: 40 });
    const frame = (at: string, ...lines: string[]) =>
      `\u001b[H\u001b[?7l${[`it, 1970-01-01T00:00:${at}Z, every 5 s`, ...lines].map(one => `${one}\u001b[K\n`).join('')}\u001b[J\u001b[?7h`;
    assert.equal(frames, [`\u001b[2J${frame('00', 'a', 'long line')}`, frame('05', 'b')]);
  },
);

watching(
  'a list that is longer than the terminal: says that there is more, and does not scroll',
  async () => {
    const lines = Array.from({ length: 50 }, (_, i) => `line ${i}`);
    const [frame = ''] = (await watched([lines], { columns: 80, rows: 10 })).frames;
    assert.is(frame.split('\n').length, 10);
    assert.match(frame, /line 6.*\n… more than fits here/);
    for (const rows of [1, 2]) {
      const [small = ''] = (await watched([lines], { columns: 80, rows })).frames;
      assert.ok(small.split('\n').length <= 2, small);
    }
  },
);

watching('elsewhere: prints all anew each time, without codes', async () => {
  assert.equal((await watched([['a'], ['b']])).frames, [
    'it, 1970-01-01T00:00:00Z, every 5 s\na\n',
    '\nit, 1970-01-01T00:00:05Z, every 5 s\nb\n',
  ]);
});

watching('as JSON: one object a line, on a terminal too', async () => {
  for (const options of [{}, { columns: 80 }])
    assert.equal((await watched([['a'], ['b']], { asJson: true, ...options })).frames, [
      '["a"]\n',
      '["b"]\n',
    ]);
});

watching('a reading that fails: is told, beside what was read before, and repeated', async () => {
  const turns = [['a'], AWAY, new TypeError('x'), ['b']];
  const { frames } = await watched(turns, { columns: 80 });
  assert.match(
    frames[1] ?? '',
    /As it was at 00:00:00Z, since it cannot be read now: the ledger cannot be.*\na\P{L}/u,
  );
  assert.match(frames[2] ?? '', /internal error/);
  assert.not.match(frames[3] ?? '', /As it was/);
  const elsewhere = await watched(turns);
  assert.equal(
    elsewhere.frames.map(one => one.slice(-2)),
    ['a\n', '', '', 'b\n'],
  );
  assert.is(elsewhere.logged.length, 2);
});

watching('the first reading fails: so does the command', async () => {
  await watched([AWAY]).then(
    () => assert.unreachable(),
    error => assert.is(error, AWAY),
  );
});

watching('a reader that has gone ends it; one that is slow gets no more until it has read', async () => {
  const reader = (turn: number) => (turn === 2 ? 'gone' : turn === 1 ? 'slow' : 'reads');
  const { frames, turn } = await watched([['a'], ['b'], ['c'], ['d']], { reader, asJson: true });
  assert.equal([frames, turn], [['["a"]\n', '', '', ''], 2]);
});
watching.run();
