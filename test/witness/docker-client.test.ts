// Goal: what Docker says of addresses is read as it is meant, and an answer that is not whole is an error, never
// "nothing there". Method: the answers of real engines, from a server on a unix socket, whole and spoilt.
import { IpamError } from '../../src/domain/error.ts';
import { createDockerClient } from '../../src/witness/docker-client.ts';
import {
  type Answers,
  answersOf,
  ENGINES,
  type FakeDocker,
  sample,
  serveDocker,
} from '../kit/docker/samples.ts';
import { assert, suite } from '../kit/uvu.ts';

const SECOND = () => AbortSignal.timeout(5_000);
const docker = suite('Docker client');
let server: FakeDocker | null = null;
docker.after.each(async () => {
  await server?.close();
  server = null;
});

async function read(answers: Answers) {
  server = await serveDocker(answers);
  return await createDockerClient(server.socketPath).read(SECOND());
}
async function failure(answers: Answers): Promise<string> {
  try {
    await read(answers);
  } catch (error) {
    assert.instance(error, IpamError);
    return String((error as Error).message);
  }
  throw new Error('it was expected to fail');
}

for (const engine of ENGINES) {
  const subnet = engine === '26.1.5' ? '10.26.0' : '10.29.0';
  docker(`engine ${engine}: running and paused containers have their addresses, in both lists`, async () => {
    const view = await read(answersOf(engine));
    assert.equal(view.endpoints.map(one => `${one.name} ${one.ip}`).sort(), [
      `paused ${subnet}.4`,
      `web ${subnet}.77`,
    ]);
    const withAddress = view.containers.filter(one => one.ips.length > 0);
    assert.equal(withAddress.map(one => `${one.name} ${one.image} ${one.ips}`).sort(), [
      `paused bb ${subnet}.4`,
      `web bb ${subnet}.77`,
    ]);
    assert.is(view.containers.length, 5);
    assert.is(view.engine, (answersOf(engine).info as { ID: string }).ID);
    assert.equal(view.networks, [{ driver: 'macvlan', parent: 'eth1', mode: null, flag: null }]);
  });

  docker(
    `engine ${engine}: an endpoint some ms after the answer has its address, and no container`,
    async () => {
      const answers = answersOf(engine);
      const [id = ''] = Object.keys(answers.network);
      const Containers = sample(engine, 'GET /networks/{id} .Containers: a start some ms after');
      answers.network[id] = { ...(answers.network[id] as object), Containers };
      const view = await read(answers);
      assert.equal(view.endpoints, [
        { ip: `${subnet}.5`, parent: 'eth1', container: null, name: 'starting' },
      ]);
    },
  );

  docker(`engine ${engine}: the address of a failed start counts for nothing`, async () => {
    const phantom = sample(engine, 'GET /containers/json?all=1: failed start');
    const view = await read({ ...answersOf(engine), containers: [phantom] });
    assert.equal(
      view.containers.flatMap(one => one.ips),
      [],
    );
  });
}

docker('a swarm network without IPAM driver, options and containers: is read too', async () => {
  const answers = answersOf('26.1.5');
  const swarm = sample<{ Id: string }>('26.1.5', 'GET /networks (one entry): swarm scope');
  const task = { Name: 'task', IPv4Address: '10.26.0.9/24' };
  const described = { ...swarm, Containers: { ['a'.repeat(64)]: task } };
  const view = await read({
    ...answers,
    networks: [...answers.networks, swarm],
    network: { ...answers.network, [swarm.Id]: described },
  });
  assert.ok(view.endpoints.some(one => one.ip === '10.26.0.9' && one.container === 'a'.repeat(64)));
});

docker('runtimes: only others than runc may hide addresses', async () => {
  const answers = answersOf('29.1.5');
  const withRuntimes = (...names: string[]) => ({
    ...answers,
    info: { ID: 'x', Runtimes: Object.fromEntries(names.map(name => [name, {}])) },
  });
  assert.not.ok((await read(withRuntimes('runc', 'io.containerd.runc.v2'))).hasOtherRuntimes);
  await server?.close();
  assert.ok((await read(withRuntimes('runc', 'runsc'))).hasOtherRuntimes);
});

docker('a network that disappears between list and description: the list is read again', async () => {
  const answers = answersOf('29.1.5');
  const { networks } = answers;
  let lists = 0;
  answers.instead = path => {
    if (!path.endsWith('/networks') || ++lists > 1) return undefined;
    return { status: 200, body: JSON.stringify([...networks, { Id: 'gone' }]) };
  };
  assert.is((await read(answers)).endpoints.length, 2);
  assert.is(lists, 2);
  await server?.close();
  assert.match(await failure({ ...answersOf('29.1.5'), networks: [{ Id: 'gone' }] }), 'disappear');
});

const spoilt: [what: string, instead: Answers['instead'], says: string][] = [
  ...['/info', '/networks', '/containers/json?all=1'].map((path): (typeof spoilt)[number] => [
    `${path} answered with 500`,
    asked => (asked.endsWith(path) ? { status: 500, body: '{"message":"no\u0007"}' } : undefined),
    `GET ${path} was answered with 500 {"message":"no "}`,
  ]),
  [
    'half an answer',
    asked => (asked.endsWith('/networks') ? { status: 200, body: '[{"Id":' } : undefined),
    'not JSON',
  ],
  [
    'an answer of another shape',
    asked => (asked.endsWith('all=1') ? { status: 200, body: '{"containers":[]}' } : undefined),
    "is not Docker's",
  ],
  ...['/info', '/containers/json?all=1'].map((path): (typeof spoilt)[number] => [
    `${path} answered with 404`,
    asked => (asked.endsWith(path) ? { status: 404, body: '{}' } : undefined),
    `GET ${path} was answered with 404`,
  ]),
  [
    'a network whose id is none',
    asked => (asked.endsWith('/networks') ? { status: 200, body: '[{"Id":"\\ud800/../info"}]' } : undefined),
    "is not Docker's",
  ],
  [
    'an address that is none',
    asked =>
      asked.includes('/networks/')
        ? { status: 200, body: '{"Containers":{"x":{"Name":"x","IPv4Address":"10.0.0/24"}}}' }
        : undefined,
    '10.0.0',
  ],
];
for (const [what, instead, says] of spoilt)
  docker(`${what}: is an error`, async () => {
    assert.match(await failure({ ...answersOf('26.1.5'), instead }), says);
  });

docker('a socket that nobody listens on: is an error that names it', async () => {
  const client = createDockerClient('/nowhere/docker.sock');
  const said = await client.read(SECOND()).catch(error => error.message);
  assert.match(said, 'Docker at /nowhere/docker.sock cannot be read: ENOENT');
});

docker('the version: is asked for in a way that any engine answers', async () => {
  const answers = answersOf('29.1.5');
  const instead = (path: string) =>
    path === '/version' ? { status: 200, body: '{"Version":"24.0.7"}' } : undefined;
  server = await serveDocker({ ...answers, instead });
  assert.is(await createDockerClient(server.socketPath).version(SECOND()), '24.0.7');
});

docker('networks: say what they are for', async () => {
  const answers = answersOf('29.1.5');
  const [id = ''] = Object.keys(answers.network);
  const of = { Name: 'ec2', Driver: 'ipvlan', Options: { parent: 'ens6', ipvlan_mode: 'l2' } };
  answers.network[id] = { ...of, IPAM: { Driver: 'ec2-ipam', Options: { 'eni-id': 'eni-1' } } };
  server = await serveDocker(answers);
  assert.equal(await createDockerClient(server.socketPath).networks(SECOND()), [
    { name: 'ec2', driver: 'ipvlan', parent: 'ens6', mode: 'l2', ipamDriver: 'ec2-ipam', eni: 'eni-1' },
  ]);
  answers.network[id] = { Name: null, IPAM: null };
  assert.equal(await createDockerClient(server.socketPath).networks(SECOND()), [
    { name: '', driver: '', parent: null, mode: null, ipamDriver: '', eni: null },
  ]);
});

docker('an answer that does not come: ends at the bound', async () => {
  server = await serveDocker({ ...answersOf('26.1.5'), instead: () => 'hang' });
  const bound = new AbortController();
  const reading = createDockerClient(server.socketPath).read(bound.signal);
  bound.abort(new Error('the bound'));
  assert.is(await reading.catch(error => error.message), 'the bound');
});
docker.run();
