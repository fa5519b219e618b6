// Goal: what instance metadata say is told from what they do not have, and from what they may say another time.
// Method: the simulator's metadata service, made to fail.
import { answersWithoutToken, metadataAt } from '../../src/cloud/imds.ts';
import { type Fault, METADATA } from '../../src/simulator/model/faults.ts';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { INSTANCE, serve, simulated } from '../kit/simulated.ts';
import { assert, suite } from '../kit/uvu.ts';

const TIMEOUT_MS = 200;
const metadata = suite('instance metadata');

const answers = (code: string, message = ''): Fault => ({ kind: 'error', code, message });
const cases: [what: string, fault: Fault | null, kind: string, says: string | RegExp, got?: unknown][] = [
  ['a value', null, 'value', INSTANCE],
  ['a service that is turned off', answers('403', 'no'), 'absent', 'HTTP status 403', 403],
  ['one that fails', answers('500', 'no'), 'late', 'HTTP status 500', 500],
  ['one that has too much to do', { kind: 'throttle' }, 'late', 'HTTP status 429', 429],
  ['one that refuses its own tokens', answers('401'), 'late', 'HTTP status 401', 401],
  ['an empty answer', answers('200', ' \n'), 'late', 'the answer is empty', 200],
  ["a proxy's page", answers('200', '<html>\n<p>\u00e9</html>'), 'late', 'what answers gives no token', 200],
  ['a connection that breaks', { kind: 'lostReply' }, 'late', /ECONNRESET|socket hang up|lost/],
  ['no answer', { kind: 'hang' }, 'late', `no answer within ${TIMEOUT_MS} ms`, 'timeout'],
  [
    'a late one',
    { kind: 'latency', ms: 20 * TIMEOUT_MS },
    'late',
    `no answer within ${TIMEOUT_MS} ms`,
    'timeout',
  ],
];
/** The simulator's metadata service, struck by this fault, and asked for a value. */
async function ask(fault: Fault | null, path = 'instance-id', timeoutMs = TIMEOUT_MS) {
  const vpc = simulated();
  const served = await serve(createSimulator(vpc, { instance: INSTANCE }));
  try {
    if (fault !== null) vpc.faults.add({ ...fault, action: METADATA });
    return await metadataAt(`${served.url}/`, timeoutMs)(path);
  } finally {
    served.close();
  }
}
for (const [what, fault, kind, says, got] of cases)
  metadata(`${what} is ${kind}`, async () => {
    const told = await ask(fault);
    assert.is(told.kind, kind, JSON.stringify(told));
    assert.match(told.kind === 'value' ? told.text : told.why, says);
    assert.is(told.kind === 'value' ? undefined : told.got, got);
  });

metadata('a value that is not there is absent', async () => {
  assert.equal(await ask(null, 'colour'), { kind: 'absent', why: 'HTTP status 404', got: 404 });
});

metadata('where nothing listens there are none', async () => {
  const served = await serve(createSimulator(simulated(), { instance: INSTANCE }));
  served.close();
  assert.equal(await metadataAt(served.url, TIMEOUT_MS)('mac'), { kind: 'absent', why: 'ECONNREFUSED' });
});

metadata('a request without a token is answered, or not, whatever the status', async () => {
  const asked: [fault: Fault | null, isAnswered: boolean][] = [
    [null, true],
    [answers('401'), true],
    [answers('200', ' \n'), true],
    [{ kind: 'hang' }, false],
    [{ kind: 'lostReply' }, false],
  ];
  for (const [fault, isAnswered] of asked) {
    const vpc = simulated();
    if (fault !== null) vpc.faults.add({ ...fault, action: METADATA });
    const served = await serve(createSimulator(vpc, { instance: INSTANCE }));
    const env = { AWS_EC2_METADATA_SERVICE_ENDPOINT: served.url };
    const told = await answersWithoutToken(env, TIMEOUT_MS).finally(() => served.close());
    assert.is(told, isAnswered, JSON.stringify(fault));
  }
});

metadata('where a token is refused, another one is tried', async () => {
  assert.is((await ask({ ...answers('401'), times: 1 })).kind, 'value');
});
metadata.run();
