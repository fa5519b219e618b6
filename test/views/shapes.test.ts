// Goal: each view can be described in OpenAPI, and a row of the ledger becomes a cell. Method: the schemas, and rows.
import { toJsonSchema } from '@valibot/to-json-schema';
import * as v from 'valibot';
import { AddressView } from '../../src/views/address.ts';
import { EniView } from '../../src/views/eni.ts';
import { HealthView } from '../../src/views/health.ts';
import { HostsView } from '../../src/views/hosts.ts';
import { MovedEvent } from '../../src/views/live/events.ts';
import { Overview } from '../../src/views/overview.ts';
import { SearchView } from '../../src/views/search.ts';
import { Cell, cellOf } from '../../src/views/shapes.ts';
import { SubnetMap } from '../../src/views/subnet-map.ts';
import { ENI, OTHER_ENI, rowWith } from '../kit/rows.ts';
import { assert, suite } from '../kit/uvu.ts';

const views = { Overview, SubnetMap, EniView, AddressView, HostsView, HealthView, SearchView, MovedEvent };
const shapes = suite('shapes of views');
for (const [name, schema] of Object.entries(views))
  shapes(`${name}: can be described`, () => {
    assert.is(toJsonSchema(schema).type, 'object');
  });

const REST = { cooldownMs: 30_000, quarantineMs: 600_000 };
shapes('a cell: rests for its own ENI after a release, for any ENI when it is free', () => {
  const rested = { restedSince: 1000, restedFrom: ENI };
  const until = (patch: Parameters<typeof rowWith>[0], now = 2000) =>
    cellOf(rowWith({ ...rested, ...patch }), REST, now).restsUntil;
  assert.is(until({ status: 'ready' }), 31_000);
  assert.is(until({ status: 'ready', restedFrom: OTHER_ENI }), 601_000);
  assert.is(until({ status: 'free', iface: null }), 601_000);
  assert.is(until({ status: 'ready' }, 31_000), null);
  assert.is(until({ status: 'allocated' }), null);
  assert.is(until({ status: 'ready', restedSince: null }), null);
});

shapes('a cell: names the container as Docker did, else as its host was read', () => {
  assert.is(cellOf(rowWith({ holder: 'web' }), REST, 0, 'db').container, 'web');
  const cell = cellOf(rowWith({ status: 'allocated', missingSince: 5, reservedFor: 'dns' }), REST, 0, 'db');
  assert.equal([cell.container, cell.missingSince, cell.reservedFor], ['db', 5, 'dns']);
  assert.is(v.is(Cell, cell), true);
});
shapes('a cell: has the id of the container that holds it, and of no earlier one', () => {
  const held = { status: 'allocated', movedAt: 5, containerId: 'c'.repeat(64) } as const;
  for (const [containerSince, id] of [
    [5, held.containerId],
    [4, null],
    [null, null],
  ] as const)
    assert.is(cellOf(rowWith({ ...held, containerSince }), REST, 0).containerId, id);
});
shapes.run();
