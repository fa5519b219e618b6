// Goal: an ENI, a client and all together have a bound of requests, one that is too many is told so in one line, and a
// place that is left is free. Method: small bounds.

import { IpamError } from '../../src/domain/error.ts';
import { createAdmission } from '../../src/http/admission.ts';
import { assert, suite } from '../kit/uvu.ts';

const admission = suite('admission');
const SMALL = { ofEniMax: 2, ofClientMax: 3, ofClientAlways: 0, totalMax: 5 };

function refusalOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof IpamError) return `${error.code}: ${error.line}`;
    throw error;
  }
  return 'entered';
}

admission('each ENI, each client and all have a bound, and what is beyond is told why and what to do', () => {
  const { enter } = createAdmission(SMALL);
  const come = (eni: string | null, client: string | null) => refusalOf(() => enter({ eni, client }));
  assert.equal([come('eni-a', 'i-1'), come('eni-a', 'i-1')], ['entered', 'entered']);
  const HINT =
    'nothing was changed: start fewer containers at a time, and see in the log of the server what they wait for';
  assert.is(come('eni-a', 'i-1'), `unavailable: 2 requests for eni-a wait already; ${HINT}`);
  assert.is(come('eni-b', 'i-1'), 'entered');
  assert.is(come('eni-c', 'i-1'), `unavailable: 3 requests of i-1 wait already; ${HINT}`);
  assert.is(come('eni-a', 'i-2'), 'entered', 'a client fills no place of another at an ENI');
  assert.is(come(null, null), 'entered');
  assert.is(come('eni-d', 'i-3'), `unavailable: 5 requests on the server wait already; ${HINT}`);
});

admission('a place that is left is free for the next, and a refusal takes none', () => {
  const { enter } = createAdmission(SMALL);
  const leaves = [enter({ eni: 'eni-a', client: 'i-1' }), enter({ eni: 'eni-a', client: 'i-1' })];
  for (let i = 0; i < 10; i++)
    assert.is.not(
      refusalOf(() => enter({ eni: 'eni-a', client: 'i-1' })),
      'entered',
    );
  leaves[0]?.();
  assert.is(
    refusalOf(() => enter({ eni: 'eni-a', client: 'i-1' })),
    'entered',
  );
  assert.is.not(
    refusalOf(() => enter({ eni: 'eni-a', client: 'i-1' })),
    'entered',
  );
});

admission('clients that fill all places: keep out nobody who asks for little', () => {
  const { enter } = createAdmission({ ...SMALL, ofClientAlways: 1 });
  const come = (client: string | null, eni = 'eni-z') => refusalOf(() => enter({ eni, client }));
  for (const client of ['i-1', 'i-2']) for (const eni of ['eni-a', 'eni-b', 'eni-c']) come(client, eni);
  assert.match(come('i-1'), '3 requests of i-1 wait');
  assert.match(come(null), '5 requests on the server wait', 'whoever has no name has none');
  assert.is(come('i-3'), 'entered');
  assert.match(come('i-3'), '5 requests on the server wait');
  assert.is(come('i-4'), 'entered');
});
admission.run();
