// Goal: what an operator may give up, and what not.
import { operatorRelease } from '../../../src/ipam/request/release.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ENI_A, ROOMY } from '../../kit/vpcs.ts';
import { world } from '../../kit/world.ts';

const releasing = suite('operator release');
releasing('gives up: the holder of an address, and an occupied one on an ENI of ours', async () => {
  const held = await world({ vpc: ROOMY }).request(ENI_A);
  assert.is(operatorRelease(held, true).move, 'release');
  assert.is(operatorRelease({ ...held, missingSince: 1 }, true).move, 'retire');
  assert.is(operatorRelease({ ...held, status: 'occupied' }, true).move, 'surrender');
  assert.is(operatorRelease({ ...held, status: 'occupied', absentSince: 1 }, true).move, 'vacated');
});
releasing('refuses whatever nobody may give up', async () => {
  const w = world({ vpc: ROOMY });
  const held = await w.request(ENI_A);
  const refused: [row: Parameters<typeof operatorRelease>[0], ours: boolean, why: RegExp][] = [
    [await w.rowOf('10.0.1.4'), true, /primary address of eni-0a/],
    [{ ...held, status: 'occupied' }, false, /eni-0a is not an ENI of this ledger/],
    [{ ...held, status: 'occupied', iface: null }, true, /is not on a known ENI/],
    [{ ...held, status: 'ready' }, true, /is ready: nobody holds it/],
    [await w.rowOf('10.0.1.1'), true, /is reserved: nobody holds it/],
  ];
  for (const [row, ours, why] of refused) {
    assert.is(operatorRelease(row, ours).move, null);
    assert.match(operatorRelease(row, ours).refusal, why);
  }
});
releasing.run();
