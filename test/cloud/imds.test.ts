// Goal: what instance metadata say is told from what they do not have, and from what they may say another time.
// Method: the simulator's metadata service, made to fail.
import { metadataAt } from '../../src/cloud/imds.ts';
import { type Fault, METADATA } from '../../src/simulator/model/faults.ts';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { INSTANCE, serve, simulated } from '../kit/simulated.ts';
import { assert, suite } from '../kit/uvu.ts';

const TIMEOUT_MS = 200;
const metadata = suite('instance metadata');

const cases: [what: string, fault: Fault | null, path: string, kind: string, says: string | RegExp][] = [
  ['a value', null, 'instance-id', 'value', INSTANCE],
  ['a value that is not there', null, 'colour', 'absent', 'HTTP status 404'],
  [
    'a service that is turned off',
    { kind: 'error', code: '403', message: 'no' },
    'mac',
    'absent',
    'HTTP status 403',
  ],
  ['one that fails', { kind: 'error', code: '500', message: 'no' }, 'mac', 'late', 'HTTP status 500'],
  ['one that has too much to do', { kind: 'throttle' }, 'mac', 'late', 'HTTP status 429'],
  [
    'one that refuses its own tokens',
    { kind: 'error', code: '401', message: '' },
    'mac',
    'late',
    'HTTP status 401',
  ],
  ['an empty answer', { kind: 'error', code: '200', message: ' \n' }, 'mac', 'late', 'the answer is empty'],
  ['a connection that breaks', { kind: 'lostReply' }, 'mac', 'late', /ECONNRESET|socket hang up|lost/],
  ['no answer', { kind: 'hang' }, 'mac', 'late', `no answer within ${TIMEOUT_MS} ms`],
  [
    'a late one',
    { kind: 'latency', ms: 20 * TIMEOUT_MS },
    'mac',
    'late',
    `no answer within ${TIMEOUT_MS} ms`,
  ],
];
for (const [what, fault, path, kind, says] of cases)
  metadata(`${what} is ${kind}`, async () => {
    const vpc = simulated();
    const served = await serve(createSimulator(vpc, { instance: INSTANCE }));
    try {
      if (fault !== null) vpc.faults.add({ ...fault, action: METADATA });
      const told = await metadataAt(`${served.url}/`, TIMEOUT_MS)(path);
      assert.is(told.kind, kind, JSON.stringify(told));
      assert.match(told.kind === 'value' ? told.text : told.why, says);
    } finally {
      served.close();
    }
  });

metadata('where nothing listens there are none', async () => {
  const served = await serve(createSimulator(simulated(), { instance: INSTANCE }));
  served.close();
  assert.equal(await metadataAt(served.url, TIMEOUT_MS)('mac'), { kind: 'absent', why: 'ECONNREFUSED' });
});

metadata('where a token is refused, another one is tried', async () => {
  const vpc = simulated();
  const served = await serve(createSimulator(vpc, { instance: INSTANCE }));
  try {
    vpc.faults.add({ kind: 'error', code: '401', message: '', times: 1, action: METADATA });
    assert.is((await metadataAt(served.url)('instance-id')).kind, 'value');
  } finally {
    served.close();
  }
});
metadata.run();
