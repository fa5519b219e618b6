// Goal: nothing is changed while our time of day is ahead of EC2's, whatever clock says so. Method: clocks that are set
// and that stop, and answers that tell EC2's time, or don't.
import { CLOCK_AHEAD_MS_MAX, createEc2Time } from '../../src/cloud/ec2-time.ts';
import { IpamError } from '../../src/domain/error.ts';
import { assert, suite } from '../kit/uvu.ts';

const NOON = 1_800_000_000_000;
const ACTION = 'AssignPrivateIpAddresses';
const time = suite("EC2's time");

function scene() {
  const now = { monotonic: 7_000, day: NOON };
  const lines: string[] = [];
  const ec2 = createEc2Time(
    () => now.monotonic,
    () => now.day,
    (level, message) => void lines.push(`${level} ${message}`),
  );
  const heard = (at: number, more = {}) => ec2.heard({ date: new Date(at).toUTCString(), ...more });
  const complaint = (signedFor = now.day): string => {
    try {
      ec2.check(ACTION, signedFor);
      return '';
    } catch (error) {
      if (!(error instanceof IpamError)) throw error;
      assert.is(error.code, 'ec2-unreachable');
      return error.line;
    }
  };
  const pass = (ms: number) => {
    now.monotonic += ms;
    now.day += ms;
  };
  return { now, lines, ec2, heard, complaint, pass };
}

time('before an answer it is not known, and an answer without a date tells nothing', () => {
  const { ec2, heard, complaint } = scene();
  assert.match(complaint(), `not sent: ${ACTION}: EC2's answers do not tell its time; something between`);
  ec2.heard({});
  ec2.heard({ date: 'soon' });
  heard(NOON, { age: '3' });
  assert.not(ec2.isSafe);
  heard(NOON);
  assert.is(complaint(), '');
  assert.ok(ec2.isSafe);
});

for (const [what, set] of [
  ['our clock is ahead', ({ heard }: ReturnType<typeof scene>) => heard(NOON - CLOCK_AHEAD_MS_MAX - 1000)],
  [
    'it is set forward after the answer',
    ({ heard, now }: ReturnType<typeof scene>) => {
      heard(NOON);
      now.day += CLOCK_AHEAD_MS_MAX + 1000;
    },
  ],
  [
    'the machine has slept since',
    ({ heard, now }: ReturnType<typeof scene>) => {
      heard(NOON);
      now.day += 600_000;
    },
  ],
] as const)
  time(`while ${what}, nothing is changed, and that is logged once`, () => {
    const one = scene();
    set(one);
    assert.match(one.complaint(), /clock is \d+ s ahead of EC2's; set this machine's clock right/);
    assert.not(one.ec2.isSafe);
    one.complaint();
    assert.equal(one.lines, ['error changes of EC2 suspended, clock of this host ahead']);
    one.pass(1000);
    one.heard(one.now.day);
    assert.is(one.complaint(), '');
    assert.is(one.lines.length, 2, 'and that it is right again');
    one.now.day += 60_000;
    one.complaint();
    assert.is(one.lines.length, 3);
  });

time('a request that is signed for the future is not sent, though our clock is right', () => {
  const { heard, complaint } = scene();
  heard(NOON);
  assert.is(complaint(NOON + CLOCK_AHEAD_MS_MAX), '');
  assert.match(complaint(NOON + CLOCK_AHEAD_MS_MAX + 1), /clock is 5 s ahead/);
});

time('of several dates the earliest counts', () => {
  const { ec2, complaint } = scene();
  const dates = [NOON, NOON - 60_000, NOON].map(at => new Date(at).toUTCString());
  ec2.heard({ date: dates.join(', ') });
  assert.match(complaint(), /clock is 60 s ahead/);
});

time('a clock that is behind delays nothing', () => {
  const { heard, complaint } = scene();
  heard(NOON + 3_600_000);
  assert.is(complaint(), '');
});

time('what was heard an hour ago is too old', () => {
  const { heard, ec2, pass } = scene();
  heard(NOON);
  pass(3_600_000);
  assert.ok(ec2.isSafe);
  pass(1);
  assert.not(ec2.isSafe);
});
time.run();
