// Goal: a holding ends by evidence only where every condition of the rule holds, and an address that runs on without a
// holder is withheld by one reading. Method: readings one after the other, most of them what real engines said.
import type { Ipv4 } from '../../src/domain/address.ts';
import type { Allocation } from '../../src/domain/allocation.ts';
import { type LedgerSighting, wordsOf } from '../../src/domain/sighting.ts';
import {
  type HostReading,
  SEEN_NOTED_MS,
  type Use,
  type Verdict,
  WITNESS_AGE_MS,
  type WitnessedEni,
  weigh,
} from '../../src/domain/witness.ts';
import { MAC, placeOf, readingWith, useWith } from '../kit/readings.ts';
import { ENI, ip, OTHER_ENI, range, rowWith } from '../kit/rows.ts';
import { sightingWith } from '../kit/sightings.ts';
import { assert, suite } from '../kit/uvu.ts';

const START = 1_700_000_000_000;
const HELD_SINCE = START - WITNESS_AGE_MS;
const OLD: WitnessedEni = { id: ENI, mac: MAC, attachment: 'eni-attach-0a', tenant: null };

const useOf = (last: number, patch: Partial<Use> = {}): Use => useWith(ip(last), patch);
const held = (last: number, patch: Partial<Allocation> = {}): Allocation =>
  rowWith({ ip: ip(last), status: 'allocated', movedAt: HELD_SINCE, ...patch });
const ready = (last: number, patch: Partial<Allocation> = {}): Allocation =>
  held(last, { status: 'ready', ...patch });

interface Step {
  /** Since the first reading. */
  readonly atMs: number;
  readonly reading?: Partial<HostReading>;
  readonly eni?: Partial<WitnessedEni>;
  readonly rows?: readonly Allocation[];
  readonly engineSince?: number;
}

/** Weighs one reading after the other; returns what the last one says. */
function after(rows: readonly Allocation[], ...steps: Step[]): Verdict & { sightings: LedgerSighting[] } {
  let sightings: LedgerSighting[] = [];
  let verdict: Verdict | null = null;
  for (const step of steps) {
    const enis = [{ ...OLD, ...step.eni }];
    const now = START + step.atMs;
    const reading = readingWith(step.reading);
    const weighed = { before: sightings, now, enis, reading, ageMs: WITNESS_AGE_MS };
    verdict = weigh({ ...weighed, rows: step.rows ?? rows, engineSince: step.engineSince ?? null });
    const gone = [...verdict.forget, ...verdict.save].map(one => one.ip);
    sightings = [...sightings.filter(one => !gone.includes(one.ip)), ...verdict.save];
  }
  if (verdict === null) throw new Error('no reading');
  return { ...verdict, sightings };
}
const ipsOf = (list: readonly { readonly row: Allocation }[]): Ipv4[] => list.map(({ row }) => row.ip);
const leaks = (rows: readonly Allocation[], ...steps: Step[]): Ipv4[] => ipsOf(after(rows, ...steps).leaks);

const FIRST: Step = { atMs: 0 };
const SECOND: Step = { atMs: WITNESS_AGE_MS };
const THIRD: Step = { atMs: 2 * WITNESS_AGE_MS };

const evidence = suite('evidence of a leak');
evidence('two complete readings 120 s apart that show it nowhere: it is a leak', () => {
  const { leaks: found } = after([held(7)], FIRST, SECOND);
  assert.equal(found, [{ row: held(7), unseenSince: START, readings: 2 }]);
});
evidence('one reading: is no evidence, however often it is weighed', () => {
  assert.equal(leaks([held(7)], FIRST), []);
  assert.equal(leaks([held(7)], FIRST, FIRST, FIRST), []);
});
evidence('readings less than 120 s apart: are no evidence', () => {
  assert.equal(leaks([held(7)], FIRST, { atMs: 60_000 }, { atMs: WITNESS_AGE_MS - 1 }), []);
});
evidence('a store whose clock was set back: has no evidence', () => {
  assert.equal(leaks([held(7)], FIRST, { atMs: -WITNESS_AGE_MS }), []);
});
evidence('a row that was younger than 120 s at the first reading: waits for another one', () => {
  const row = held(7, { movedAt: HELD_SINCE + 1 });
  assert.equal(leaks([row], FIRST, SECOND), []);
  assert.equal(leaks([row], FIRST, SECOND, THIRD), [ip(7)]);
});
evidence('a row that has moved since the first reading: begins anew', () => {
  const moved = held(7, { generation: 8 });
  assert.equal(leaks([held(7)], FIRST, { ...SECOND, rows: [moved] }), []);
  assert.equal(leaks([moved], { ...FIRST, rows: [held(7)] }, SECOND, THIRD), [ip(7)]);
});

const views: [view: string, patch: Partial<Use>][] = [
  ["Docker's networks", { isInNetworks: true }],
  ['a running container of Docker', { isInContainers: true, places: [placeOf()] }],
  ['a running container that the kernel does not show', { isInContainers: true }],
  ['a namespace with a process', { places: [placeOf()] }],
  ['a namespace without a process', { places: [placeOf({ pid: null, path: '/run/docker/netns/a' })] }],
  ['the host itself', { places: [placeOf({ isHost: true })] }],
];
for (const [view, patch] of views) {
  const uses = [useOf(7, patch)];
  evidence(`${view} shows it at the first, at the second or between: no leak`, () => {
    assert.equal(leaks([held(7)], { ...FIRST, reading: { uses } }, SECOND), []);
    assert.equal(leaks([held(7)], FIRST, { ...SECOND, reading: { uses } }), []);
    assert.equal(leaks([held(7)], FIRST, { atMs: 60_000, reading: { uses } }, SECOND), []);
  });
  evidence(`${view} shows it in a reading that is not complete: the count begins anew`, () => {
    const reading = { uses, incomplete: 'Docker did not answer' };
    assert.equal(leaks([held(7)], FIRST, { atMs: 60_000, reading }, SECOND), []);
  });
}

const uncounted: [what: string, step: Pick<Step, 'reading' | 'eni'>][] = [
  ['not complete', { reading: { incomplete: 'Docker did not answer' } }],
  ['of a host without the ENI', { reading: { macs: ['02:00:00:00:00:09'] } }],
  ['taken while a call for the ENI is under way', { reading: { unanswered: [ENI] } }],
  ['of an ENI whose MAC address is not known', { eni: { mac: null } }],
  ['of an ENI that is not attached', { eni: { attachment: null } }],
];
for (const [what, step] of uncounted)
  evidence(`a reading ${what}: counts neither as the first nor as the second, and undoes nothing`, () => {
    assert.equal(leaks([held(7)], { ...FIRST, ...step }, SECOND), []);
    assert.equal(leaks([held(7)], FIRST, { ...SECOND, ...step }), []);
    assert.equal(leaks([held(7)], FIRST, { atMs: 60_000, ...step }, SECOND), [ip(7)]);
  });
evidence('a call under way for another ENI: does not matter', () => {
  const reading = { unanswered: [OTHER_ENI] };
  assert.equal(leaks([held(7)], { ...FIRST, reading }, { ...SECOND, reading }), [ip(7)]);
});

const restarts: [what: string, step: Pick<Step, 'reading' | 'eni'>][] = [
  ['a boot', { reading: { boot: 'boot-2' } }],
  ['another engine, whose data was wiped', { reading: { engine: 'engine-2' } }],
  ['another attachment of the ENI', { eni: { attachment: 'eni-attach-0b' } }],
];
for (const [what, step] of restarts)
  evidence(`${what} between the readings: the count begins anew`, () => {
    assert.equal(leaks([held(7)], FIRST, { ...SECOND, ...step }), []);
    assert.equal(leaks([held(7)], FIRST, { ...SECOND, ...step }, { ...THIRD, ...step }), [ip(7)]);
  });

evidence('a running container that the kernel does not show: nothing is a leak on this host', () => {
  const uses = [useOf(8, { isInContainers: true })];
  const verdict = after([held(7), held(8)], FIRST, { ...SECOND, reading: { uses } });
  assert.equal(verdict.leaks, []);
  assert.match(verdict.incomplete ?? '', 'the kernel does not show 10.0.1.8');
  const elsewhere = [useOf(99, { isInContainers: true })];
  assert.equal(leaks([held(7)], FIRST, { ...SECOND, reading: { uses: elsewhere } }), [ip(7)]);
});

evidence('a new engine with other runtimes: what was given before is left to the operator', () => {
  const reading = { hasOtherRuntimes: true };
  const steps = (engineSince: number, more = reading) =>
    [FIRST, SECOND].map(step => ({ ...step, engineSince, reading: more }));
  assert.equal(leaks([held(7)], ...steps(HELD_SINCE + 1)), []);
  assert.equal(leaks([held(7)], ...steps(HELD_SINCE)), [ip(7)]);
  assert.equal(leaks([held(7)], ...steps(HELD_SINCE + 1, { hasOtherRuntimes: false })), [ip(7)]);
});

evidence('other statuses, primaries and other ENIs: are no leaks', () => {
  const rows = [
    ...(['ready', 'occupied', 'assigning', 'unassigning'] as const).map((status, i) =>
      held(10 + i, { status }),
    ),
    held(20, { primary: true }),
    held(21, { iface: OTHER_ENI }),
  ];
  assert.equal(leaks(rows, FIRST, SECOND), []);
});

evidence('one pass: ends three, or a quarter of what the ENI holds, those unseen longest', () => {
  const few = range(8, 10).map(last => held(last));
  const verdict = after(few, FIRST, SECOND);
  assert.equal(ipsOf(verdict.leaks), [10, 11, 12].map(ip));
  assert.is(verdict.postponed, 5);
  const many = range(20, 10).map(last => held(last));
  assert.is(leaks(many, FIRST, SECOND).length, 5);
  const late = { uses: [useOf(10, { isInNetworks: true })] };
  assert.equal(leaks(few, { ...FIRST, reading: late }, { atMs: 1_000 }, { atMs: 1_000 + WITNESS_AGE_MS }), [
    ...[11, 12, 13].map(ip),
  ]);
});

const strays = suite('addresses in use without a holder');
const RUNS_ON = { uses: [useOf(7, { places: [placeOf({ container: 'c0ffee'.padEnd(64, '0') })] })] };
strays('one reading: withholds a ready address that a process has, complete or not', () => {
  for (const incomplete of [null, 'Docker did not answer']) {
    const verdict = after([ready(7), ready(8)], { ...FIRST, reading: { ...RUNS_ON, incomplete } });
    assert.equal(ipsOf(verdict.withheld), [ip(7)]);
    assert.match(
      verdict.withheld[0]?.finding ?? '',
      'process 321 (runc init) of container c0ffee000000 in network namespace 4026532001',
    );
    assert.equal(verdict.strays, []);
  }
});
strays('a second reading: makes it occupied, and its sighting is that of the occupied row', () => {
  const { strays: found, save } = after(
    [ready(7)],
    { ...FIRST, reading: RUNS_ON },
    { atMs: 1, reading: RUNS_ON },
  );
  assert.equal(ipsOf(found), [ip(7)]);
  assert.is(save[0]?.generation, ready(7).generation + 1);
});
strays('an address that has moved since the first reading: begins anew', () => {
  const again = { atMs: 1, reading: RUNS_ON, rows: [ready(7, { generation: 8 })] };
  assert.equal(after([ready(7)], { ...FIRST, reading: RUNS_ON }, again).strays, []);
});
strays(
  'addresses of the host itself, in a list of Docker only, or of another status: are not withheld',
  () => {
    const uses = [
      useOf(7, { places: [placeOf({ isHost: true })] }),
      useOf(8, { isInNetworks: true }),
      ...[9, 10, 11, 12].map(last => useOf(last, { places: [placeOf()] })),
    ];
    const others = (['allocated', 'occupied', 'assigning', 'unassigning'] as const).map((status, i) =>
      held(9 + i, { status }),
    );
    const rows = [
      ready(7),
      ready(8),
      ...others,
      ready(13, { iface: OTHER_ENI }),
      ready(14, { primary: true }),
    ];
    const verdict = after(rows, { ...FIRST, reading: { uses } }, { ...SECOND, reading: { uses } });
    assert.equal(verdict.withheld, []);
    assert.equal(verdict.strays, []);
  },
);
strays(
  'an address on an ENI of another host: is not withheld, since it is somebody else who has it here',
  () => {
    const reading = { ...RUNS_ON, macs: ['02:00:00:00:00:09'] };
    assert.equal(after([ready(7)], { ...FIRST, reading }).withheld, []);
  },
);
strays(
  'a ready address is offered again when a complete reading misses it, not when an incomplete one does',
  () => {
    const seen = { ...FIRST, reading: RUNS_ON };
    const blind = { atMs: 1, reading: { incomplete: 'the kernel was not read' } };
    assert.equal(ipsOf(after([ready(7)], seen, blind).withheld), [ip(7)]);
    const verdict = after([ready(7)], seen, { atMs: 1 });
    assert.equal(verdict.withheld, []);
    assert.equal(verdict.sightings, []);
  },
);

const occupied = (last: number) => ready(last, { status: 'occupied', generation: 8 });
const MADE_OCCUPIED: Step[] = [
  { ...FIRST, reading: RUNS_ON },
  { atMs: 1, reading: RUNS_ON },
];
strays('an occupied one: comes back when two complete readings in a row miss it', () => {
  const rows = [occupied(7)];
  const misses = (atMs: number, reading: Partial<HostReading> = {}) => ({ atMs, rows, reading });
  const clearedBy = (...steps: Step[]) =>
    after([ready(7)], ...MADE_OCCUPIED, ...steps).cleared.map(row => row.ip);
  assert.equal(clearedBy(misses(2)), []);
  assert.equal(clearedBy(misses(2), misses(3)), [ip(7)]);
  assert.equal(clearedBy(misses(2), misses(3, RUNS_ON), misses(4)), [], 'in a row');
  assert.equal(clearedBy(misses(2), misses(3, { incomplete: 'no' })), [], 'complete');
  assert.equal(clearedBy(misses(2), misses(3, { boot: 'boot-2' })), [], 'of one boot');
  assert.equal(
    ipsOf(after([ready(7)], ...MADE_OCCUPIED, misses(2)).withheld),
    [ip(7)],
    'withheld until then',
  );
});
strays(
  "one of a tenant's ENI: stays ready, which counts against the quota, until two readings in a row miss it",
  () => {
    const step = (atMs: number, patch: Partial<HostReading> = {}): Step => ({
      ...{ atMs, eni: { tenant: 'red' }, reading: patch },
    });
    const used = [0, 1, 2].map(atMs => step(atMs, RUNS_ON));
    const found = after([ready(7)], ...used);
    assert.equal([found.strays, ipsOf(found.withheld)], [[], [ip(7)]]);
    const withheldBy = (...steps: Step[]) => ipsOf(after([ready(7)], ...used, ...steps).withheld);
    assert.equal(withheldBy(step(3)), [ip(7)]);
    assert.equal(withheldBy(step(3), step(4, RUNS_ON), step(5)), [ip(7)], 'in a row');
    const [last] = [after([ready(7)], ...used, step(3), step(4))];
    assert.equal([last.withheld, last.cleared, last.sightings], [[], [], []]);
    assert.equal(ipsOf(after([ready(7)], step(0, RUNS_ON), step(1)).withheld), [], 'one reading showed it');
  },
);

strays('an address that is occupied for another reason: never comes back by a reading', () => {
  const verdict = after([occupied(7)], FIRST, SECOND, THIRD);
  assert.equal(verdict.cleared, []);
  const again = ready(7, { status: 'occupied', generation: 10, restedSince: START + 1 });
  const later = { atMs: 3, rows: [again] };
  const moved = after([ready(7)], ...MADE_OCCUPIED, { ...later, atMs: 2 }, later);
  assert.equal(moved.cleared, [], 'it was given up since');
  assert.equal(moved.sightings, []);
});

const sightings = suite('sightings');
const NAMED = { isInNetworks: true, container: { id: 'c1', name: 'web', image: 'bb' } };
sightings('a held address in use: its container is noted for people, once in ten minutes', () => {
  const seen = (atMs: number) => ({ atMs, reading: { uses: [useOf(7, NAMED)] } });
  const { save } = after([held(7)], seen(0));
  assert.equal(save, [sightingWith(7, { seenAt: START, container: 'c1', name: 'web', image: 'bb' })]);
  assert.equal(after([held(7)], seen(0), seen(60_000)).save, []);
  assert.is(after([held(7)], seen(0), seen(SEEN_NOTED_MS)).save[0]?.seenAt, START + SEEN_NOTED_MS);
});
sightings('a held address in use: keeps its name when a reading has none', () => {
  const nameless = { atMs: 1, reading: { uses: [useOf(7, { places: [placeOf()] })] } };
  const { sightings: left } = after([held(7)], { ...FIRST, reading: { uses: [useOf(7, NAMED)] } }, nameless);
  assert.is(left[0]?.name, 'web');
});
sightings('a row that moved, or left the ENI: its sighting is forgotten', () => {
  const seen = { ...FIRST, reading: { uses: [useOf(7, NAMED)] } };
  assert.equal(after([held(7)], seen, { atMs: 1, rows: [] }).sightings, []);
  assert.equal(after([held(7)], seen, { atMs: 1, rows: [ready(7, { generation: 8 })] }).sightings, []);
});
sightings('words: say what is counted against a holding, of its generation only', () => {
  const unseen = sightingWith(7, { unseenSince: START, unseenReadings: 1 });
  const words = (sighting: LedgerSighting | undefined, row = held(7)) =>
    wordsOf(row, sighting, START + 60_000);
  assert.is(words(unseen), 'not seen by Docker or the kernel for 60 s (1 reading)');
  assert.match(words({ ...unseen, unseenReadings: 3 }) ?? '', '(3 readings)');
  assert.is(words(sightingWith(7, { seenAt: START, name: 'web' })), 'seen in use by web 60 s ago');
  assert.is(words(sightingWith(7, { seenAt: START })), 'seen in use by a process 60 s ago');
  assert.is(words(unseen, held(7, { generation: 8 })), null);
  assert.is(words(undefined), null);
  assert.is(words(sightingWith(7)), null);
});

const WEB = 'a'.repeat(64);
const DB = 'b'.repeat(64);
const STARTING = { mac: MAC, container: null };
const shownBy = (endpoints: Use['endpoints'], more: Partial<Use> = {}): Step => ({
  ...FIRST,
  reading: { uses: [useOf(7, { isInNetworks: true, endpoints, ...more })] },
});
const namedWeb = { container: { id: WEB, name: 'web', image: 'bb' } };
const idsShown = (row: Allocation, ...steps: Step[]) => after([row], ...steps).containers.map(({ id }) => id);
const containers = suite('ids of containers');
const KNOWN: [what: string, row: Allocation, step: Step][] = [
  ['one that a network on its ENI lists', held(7), shownBy([{ mac: MAC, container: WEB }])],
  [
    'one with the name of the request',
    held(7, { holder: 'web' }),
    shownBy([{ mac: MAC, container: WEB }], namedWeb),
  ],
  [
    'one whose name the reading does not show',
    held(7, { holder: 'web' }),
    shownBy([{ mac: MAC, container: WEB }], { container: { id: WEB, name: null, image: null } }),
  ],
  [
    'one beside another that has the address on another interface',
    held(7, { holder: 'web' }),
    shownBy(
      [
        { mac: '02:00:00:00:00:09', container: DB },
        { mac: MAC, container: WEB },
      ],
      { container: { id: DB, name: 'db', image: 'bb' } },
    ),
  ],
  [
    'one in a reading that proves no absence',
    held(7),
    { ...FIRST, reading: { ...shownBy([{ mac: MAC, container: WEB }]).reading, incomplete: 'no boot id' } },
  ],
];
for (const [what, row, step] of KNOWN)
  containers(`${what}: is known`, () => {
    assert.equal(after([row], step).containers, [{ row, id: WEB }]);
  });

const inAllViews: Partial<Use> = {
  ...{ isInNetworks: true, isInContainers: true, places: [placeOf({ container: WEB })] },
  ...namedWeb,
};
const UNKNOWN: [what: string, row: Allocation, step: Step][] = [
  ['in no network, though it runs, as one whose address was released', held(7), shownBy([], inAllViews)],
  ['on another interface', held(7), shownBy([{ mac: '02:00:00:00:00:09', container: WEB }], inAllViews)],
  ['while another one starts with the address', held(7), shownBy([{ mac: MAC, container: WEB }, STARTING])],
  ['that is about to start', held(7), shownBy([STARTING], inAllViews)],
  [
    'beside another one with the address',
    held(7),
    shownBy([
      { mac: MAC, container: WEB },
      { mac: MAC, container: DB },
    ]),
  ],
  [
    'with another name than that of the request',
    held(7, { holder: 'db' }),
    shownBy([{ mac: MAC, container: WEB }], namedWeb),
  ],
  ['of an address that nobody holds', ready(7), shownBy([{ mac: MAC, container: WEB }], inAllViews)],
  [
    'on an ENI whose MAC address is not known',
    held(7),
    { ...shownBy([{ mac: MAC, container: WEB }]), eni: { mac: null } },
  ],
  [
    'of a row on another ENI',
    held(7, { iface: OTHER_ENI }),
    shownBy([{ mac: MAC, container: WEB }], inAllViews),
  ],
];
for (const [what, row, step] of UNKNOWN)
  containers(`one ${what}: is not known`, () => assert.equal(idsShown(row, step), []));

containers('one that is known already: is not told again, whatever is shown later', () => {
  const row = held(7, { containerId: WEB, containerSince: HELD_SINCE });
  for (const id of [WEB, DB]) assert.equal(idsShown(row, shownBy([{ mac: MAC, container: id }])), []);
});
for (const one of [evidence, strays, sightings, containers]) one.run();
