// Goal: whoever tests with the simulator makes and changes its world over HTTP. Method: fetch against a served app.
import { request } from 'node:http';
import type { EniId, InstanceId } from '../../src/domain/ids.ts';
import type { Mutation } from '../../src/simulator/model/records.ts';
import { assign, failureOf, simulatorSuite } from '../kit/servers/simulator.ts';
import { ETH1, ips, SUBNET } from '../kit/simulated.ts';
import { assert } from '../kit/uvu.ts';

const admin = simulatorSuite("the simulator's API");

admin('the help text: names paths that are there', async ({ url }) => {
  const help = await (await fetch(`${url}/simulator`)).text();
  const routes = [...help.matchAll(/^ {2}(GET|POST|PUT|DELETE) +(\/simulator\/\S+)/gm)];
  assert.ok(routes.length >= 15, help);
  for (const [, method = '', path = ''] of routes) {
    const id = path.includes('instances') ? 'i-0bad' : 'eni-0bad';
    const target = path.replace('ID', id).replace(/\?.*/, '');
    const body = method === 'POST' || method === 'PUT' ? { body: '{}' } : {};
    const response = await fetch(`${url}${target}`, { method, ...body });
    assert.ok([200, 400].includes(response.status), `${method} ${path}: ${response.status}`);
  }
});

interface State {
  subnets: { id: string; reservations?: { cidr: string }[] }[];
  enis: { id: string; primary: string; mac: string; secondaries: string[] }[];
}
admin('a world: is built, changed and shown', async ({ vpc, json }) => {
  const reservations = [{ cidr: '10.0.3.128/28', type: 'prefix' }];
  const mac = '02:00:00:00:00:03';
  await json('POST', '/subnets', { id: 'subnet-0c3', cidr: '10.0.3.0/24', reservations });
  await json('POST', '/instances', { id: 'i-0c3', type: 't3.small' });
  await json('POST', '/enis', { id: 'eni-0c3', subnet: 'subnet-0c3', primary: '10.0.3.10', mac });
  await json('POST', '/enis/eni-0c3/attach', { instance: 'i-0c3', deviceIndex: 1 });
  await json('POST', '/enis/eni-0c3/assign', { ips: ['10.0.3.20'] });
  await json('POST', '/enis/eni-0c3/assign', { count: 2 });
  await json('POST', '/enis/eni-0c3/unassign', { ips: ['10.0.3.20'] });
  const { subnets, enis } = await json<State>('GET', '/state');
  assert.equal(subnets.find(one => one.id === 'subnet-0c3')?.reservations?.[0]?.cidr, '10.0.3.128/28');
  const eni = enis.find(one => one.id === 'eni-0c3');
  assert.equal([eni?.primary, eni?.mac, eni?.secondaries.length], ['10.0.3.10', mac, 2]);
  await json('PUT', '/enis/eni-0c3/tags', { Name: 'x' });
  assert.equal(vpc.network.eni('eni-0c3' as EniId).tags, { Name: 'x' });
  await json('POST', '/enis/eni-0c3/detach', {});
  await json('PUT', '/instances/i-0c3/state', { state: 'terminated' });
  await json('DELETE', '/enis/eni-0c3');
  assert.is([...vpc.network.enis()].length, 3);
  assert.is(vpc.network.instance('i-0c3' as InstanceId).state, 'terminated');
});

admin('a web page: is refused, by its headers and by a name that was rebound', async ({ vpc, url }) => {
  const before = [...vpc.network.enis()].length;
  const call = (headers: Record<string, string>) =>
    new Promise<number | undefined>((resolve, reject) => {
      const sent = request(`${url}/simulator/enis`, { method: 'POST', headers }, answer => {
        answer.resume();
        resolve(answer.statusCode);
      });
      sent.once('error', reject).end(JSON.stringify({ subnet: SUBNET }));
    });
  for (const headers of [{ Origin: 'null' }, { 'Sec-Fetch-Site': 'cross-site' }, { Host: 'evil.test' }])
    assert.is(await call(headers as Record<string, string>), 403);
  assert.is([...vpc.network.enis()].length, before);
  assert.is(await call({ Host: 'localhost' }), 200);
  assert.is([...vpc.network.enis()].length, before + 1);
});

admin('a foreign address: is taken and given back by its owner', async ({ vpc, ec2, json }) => {
  const { id } = await json<{ id: string }>('POST', '/foreign', { subnet: SUBNET, ip: '10.0.1.99' });
  assert.match((await failureOf(assign(ec2, ETH1, '10.0.1.99'))).message, /^\[10\.0\.1\.99\]/);
  await json('DELETE', `/enis/${id}`);
  await assign(ec2, ETH1, '10.0.1.99');
  assert.equal(vpc.network.eni(ETH1).secondaries, ['10.0.1.99']);
});

admin('faults, buckets and the clock: are set from outside', async ({ vpc, ec2, json }) => {
  const refused = async () => (await failureOf(assign(ec2, ETH1, '10.0.1.20'))).name;
  await json('PUT', '/rights', { denied: ['AssignPrivateIpAddresses'] });
  assert.is(await refused(), 'UnauthorizedOperation');
  assert.equal((await json<{ denied: string[] }>('GET', '/state')).denied, ['AssignPrivateIpAddresses']);
  await json('PUT', '/rights', { denied: [] });
  await json('POST', '/faults', { kind: 'throttle', action: 'AssignPrivateIpAddresses', times: 1 });
  assert.is(await refused(), 'RequestLimitExceeded');
  await json('POST', '/faults', { kind: 'applyLate', ms: 1000 });
  await json('DELETE', '/faults');
  assert.equal(vpc.faults.list, []);
  await json('PUT', '/buckets', { scale: 0 });
  assert.is(await refused(), 'RequestLimitExceeded');
  await json('PUT', '/buckets', { scale: null });
  await assign(ec2, ETH1, '10.0.1.20');
  assert.equal(await json('POST', '/advance', { ms: 5000 }), { now: 1_005_000, lateCalls: 0 });
  assert.equal(await json('GET', '/calls'), { AssignPrivateIpAddresses: 4 });
});

interface Journal {
  next: number;
  mutations: Mutation[];
}
admin('the journal: goes on from where one has read', async ({ ec2, json }) => {
  const { next } = await json<Journal>('GET', '/journal');
  await assign(ec2, ETH1, '10.0.1.20');
  const { mutations } = await json<Journal>('GET', `/journal?after=${next}`);
  const change = { action: 'AssignPrivateIpAddresses', eni: ETH1, ips: ips('10.0.1.20') };
  assert.equal(mutations, [{ at: 1_000_000, ...change }]);
});

const LONG = `"${'x'.repeat(1 << 20)}"`;
const wrong: [path: string, body: string, says: RegExp][] = [
  ['/subnets', '{"cidr":"10.0.3.0","zone":3,"colour":"red"}', /^(?=.*cidr: )(?=.*zone: )(?=.*colour: )/s],
  ['/subnets', '{', /not JSON/],
  ['/subnets', LONG, /longer than 1048576 bytes/],
  ['/faults', '{"kind":"fire"}', /kind: /],
  ['/faults', '{"kind":"applyLate","ms":930000}', /ms: /],
  ['/enis', `{"subnet":"${SUBNET}","primary":"10.0.1.1"}`, /reserved address range/],
  ['/advance', '{"ms":-1}', /ms: /],
];
for (const [path, body, says] of wrong)
  admin(`${path} ${body.slice(0, 40)}: changes nothing and gets every complaint`, async ({ vpc, url }) => {
    const response = await fetch(`${url}/simulator${path}`, { method: 'POST', body });
    assert.is(response.status, 400);
    assert.match(await response.text(), says);
    assert.is([...vpc.network.subnets()].length, 2);
    assert.equal(vpc.faults.list, []);
  });
admin.run();
