/** A hundred assorted requests, good and bad, for the world below. Their order matters. */
import { dockerds } from '../kit/servers/raw-http.ts';

const GATEWAY = { RequestAddressType: 'com.docker.network.gateway' };
const named = (name: string) => ({ 'com.docker.network.endpoint.name': name });
const FIRST = 'subnet-0a1b2c3d4e5f60001';
const SECOND = 'subnet-0a1b2c3d4e5f60002';
const INSTANCE = 'i-0a1b2c3d4e5f60001';
const ELSEWHERE = 'i-0a1b2c3d4e5f60002';
const A = 'eni-0a1b2c3d4e5f60001';
const B = 'eni-0a1b2c3d4e5f60002';
const C = 'eni-0a1b2c3d4e5f60003';

/** Two ENIs of this instance in two subnets, the second small, and one of another instance. */
export const WORLD = {
  subnets: [
    { id: FIRST, cidr: '10.0.1.0/24' },
    { id: SECOND, cidr: '10.0.2.0/28' },
  ],
  instances: [
    { id: INSTANCE, type: 'm5.large' },
    { id: ELSEWHERE, type: 'm5.large' },
  ],
  enis: [
    { id: A, subnet: FIRST, primary: '10.0.1.10', attachment: { instance: INSTANCE, deviceIndex: 1 } },
    { id: B, subnet: SECOND, primary: '10.0.2.10', attachment: { instance: INSTANCE, deviceIndex: 2 } },
    {
      id: C,
      subnet: FIRST,
      primary: '10.0.1.11',
      secondaries: ['10.0.1.12', '10.0.1.13'],
      attachment: { instance: ELSEWHERE, deviceIndex: 1 },
    },
  ],
};

const post = (method: string, body: unknown): string =>
  dockerds(`/IpamDriver.${method}`, typeof body === 'string' ? body : `${JSON.stringify(body)}\n`);
const POOL = {
  AddressSpace: 'ec2-ipam',
  Pool: '10.0.1.0/24',
  SubPool: '',
  Options: { 'eni-id': A },
  V6: false,
};
const pool = (more: object = {}) => post('RequestPool', { ...POOL, ...more });
const words = (text: string): string[] => text.split(' ');
const start = (PoolID: string, Address = '', Options: unknown = null) =>
  post('RequestAddress', { PoolID, Address, Options });
const stop = (PoolID: string, Address: string) => post('ReleaseAddress', { PoolID, Address });
const raw = (line: string, body = ''): string =>
  `${line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
const times = (count: number, make: (index: number) => string): string[] =>
  Array.from({ length: count }, (_, i) => make(i));

const GOOD = [
  dockerds('/Plugin.Activate', ''),
  post('GetCapabilities', ''),
  post('GetDefaultAddressSpaces', ''),
  pool(),
  pool(),
  pool({ Options: { 'eni-id': A, 'instance-id': INSTANCE } }),
  pool({ SubPool: '10.0.1.128/25' }),
  pool({ Pool: '' }),
  start(A, '', GATEWAY),
  start(A, '10.0.1.1', GATEWAY),
  start(A, '10.0.1.77'),
  start(A, '10.0.1.78', named('web')),
  ...times(4, i => start(A, '', named(`w${i}`))),
  start(`${A};range=10.0.1.128/25`),
  stop(A, '10.0.1.77'),
  stop(A, '10.0.1.77'),
  start(A, '10.0.1.77', named('été')),
  ...words('10.0.1.1 10.0.1.10 10.9.9.9').map(ip => stop(A, ip)),
  stop(B, '10.0.1.77'),
  start(B, '', named('x'.repeat(300))),
  ...times(10, () => start(B)), // more than there are
  pool({ Pool: '10.0.2.0/28', Options: { 'eni-id': B } }),
  post('ReleasePool', { PoolID: A }),
  post('ReleasePool', { PoolID: 'pool-7' }),
];

const REFUSED = [
  ...words('10.0.2.0/24 0.0.0.0/24 10.0.1.0').map(Pool => pool({ Pool })),
  pool({ Pool: 'fd00::/64', V6: true }),
  pool({ SubPool: '10.0.9.0/25' }),
  pool({ SubPool: '10.0.1.1/25' }),
  ...[null, {}, { 'eni-id': 'eth1' }, { 'eni-id': 'eni-0fff' }, { 'eni-id': C }].map(Options =>
    pool({ Options }),
  ),
  pool({ Options: { 'eni-id': A, 'instance-id': ELSEWHERE } }),
  ...words('10.0.1.78 10.0.1.0 10.0.1.1 10.0.1.255 10.0.1.10 10.0.1.11 10.0.1.12').map(ip => start(A, ip)),
  ...words('10.9.9.9 010.0.1.7 10.0.1.7/24 fd00::1').map(ip => start(A, ip)),
  start(A, '10.0.1.7', GATEWAY),
  ...['eni-0fff', C, 'pool-7', `${A};v6`, `${A};range=10.0.1.1/25`, ''].map(eni => start(eni)),
  stop('pool-7', '10.0.1.77'),
  stop(A, ''),
  stop(A, '10.0.1.256'),
];

const BAD_BODIES = ['', '\n', '{', '[]', 'null', '"x"', '7', '{"PoolID":7}', '\u0000', '\ufeff{}', 'é{'];
const ENDPOINTS = ['RequestPool', 'RequestAddress', 'ReleaseAddress', 'ReleasePool'];

const ELSE = [
  raw('GET /'),
  raw('GET /IpamDriver.RequestAddress'),
  raw('PUT /IpamDriver.RequestAddress', '{}'),
  raw('DELETE /Plugin.Activate'),
  raw('OPTIONS /Plugin.Activate'),
  raw('POST /', '{}'),
  ...words('/plugin.activate /Plugin.Activate/ //Plugin.Activate /Plugin.Activate?x=1').map(path =>
    raw(`POST ${path}`),
  ),
  raw('POST /IpamDriver.Nothing', '{}'),
  raw(`POST /${'x'.repeat(500)}`),
  raw('POST /%00%ff%2e%2e/'),
  post('RequestAddress', `{"PoolID":"${A}","Address":"","Options":{"a":[1,{"b":null}]},"More":true}`),
  post('RequestAddress', `${' '.repeat(60_000)}{"PoolID":"eth0"}`),
  post('RequestAddress', `${' '.repeat(70_000)}{"PoolID":"eth0"}`),
  `POST /Plugin.Activate HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n`,
  `POST /IpamDriver.ReleasePool HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\ne\r\n{"PoolID":"p"}\r\n0\r\n\r\n`,
];

export const REQUESTS: readonly string[] = [
  ...GOOD,
  ...REFUSED,
  ...ENDPOINTS.flatMap(endpoint => BAD_BODIES.map(body => post(endpoint, body))),
  ...ELSE,
];
