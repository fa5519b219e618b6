// Goal: addresses and blocks are read strictly, and the arithmetic of a subnet is AWS's. Method: tables.
import {
  contains,
  covers,
  formatCidr,
  formatRange,
  fromNumber,
  type Ipv4,
  isLoopback,
  isReserved,
  parseCidr,
  parseIpv4,
  parseRange,
  routerOf,
  sizeOf,
  spreadOf,
  toNumber,
} from '../../src/domain/address.ts';
import { refuses } from '../kit/failures.ts';
import { assert, suite } from '../kit/uvu.ts';

const addresses = suite('address');
const numbers: [text: string, number: number][] = [
  ['0.0.0.0', 0],
  ['0.0.1.0', 256],
  ['10.0.1.77', 0x0a00014d],
  ['127.255.255.255', 2 ** 31 - 1],
  ['128.0.0.0', 2 ** 31],
  ['255.255.255.255', 2 ** 32 - 1],
];
for (const [text, number] of numbers)
  addresses(`${text}: is ${number}, and back`, () => {
    assert.is(toNumber(text), number);
    assert.is(fromNumber(number), text);
  });

const nones: [why: string, texts: string[]][] = [
  ['not four parts', ['', '10.0.1', '10.0.1.2.3', '10.0..2', '167772418']],
  ['a part too large', ['10.0.1.256']],
  ['another notation', ['010.0.1.2', '10.0.1.00', '10.0.1.+2', '10.0.1.0x2', '1e1.0.1.2', '１０.0.1.2']],
  ['something around it', [' 10.0.1.2', '10.0.1.2\n', '10.0.1.2/24', '::ffff:10.0.1.2']],
];
for (const [why, texts] of nones)
  for (const text of texts)
    addresses(`${JSON.stringify(text)}: is none, ${why}`, () => {
      assert.is(toNumber(text), null);
      refuses(
        () => parseIpv4(text, 'Address'),
        /^Address ".*" is not an IPv4 address; give it as four decimal/,
      );
    });

addresses('loopback: is told from everything else', () => {
  for (const host of ['127.0.0.1', '127.3.2.1', '::1', 'localhost']) assert.ok(isLoopback(host), host);
  for (const host of ['0.0.0.0', '10.0.0.1', '::', '127.example.com', '127.0.0.1.example.com', '1127.0.0.1'])
    assert.not(isLoopback(host), host);
});
addresses.run();

const ranges = suite('range');
for (const [text, size, formatted] of [
  ['10.0.1.7', 1, '10.0.1.7'],
  ['10.0.1.7-10.0.1.7', 1, '10.0.1.7'],
  ['10.0.1.250-10.0.2.1', 8, '10.0.1.250-10.0.2.1'],
  ['10.0.1.8/30', 4, '10.0.1.8-10.0.1.11'],
] as const)
  ranges(`${text}: has ${size}`, () => {
    const range = parseRange(text);
    assert.equal([sizeOf(range), formatRange(range)], [size, formatted]);
  });
for (const [text, says] of [
  ['10.0.1.8-10.0.1.7', /"10\.0\.1\.8-10\.0\.1\.7" is not a range of addresses; give the first and the last/],
  ['10.0.1.7-10.0.1.8-10.0.1.9', /is not a range/],
  ['10.0.1.7-9', /"9" is not an IPv4 address/],
  ['-10.0.1.7', /"" is not an IPv4 address/],
  ['10.0.1.7/30', /has host bits/],
] as const)
  ranges(`${text}: is none`, () => refuses(() => parseRange(text), says));
ranges.run();

const blocks = suite('block');
const cidrs: [text: string, first: string, last: string, size: number][] = [
  ['10.0.1.0/24', '10.0.1.0', '10.0.1.255', 256],
  ['10.0.0.0/16', '10.0.0.0', '10.0.255.255', 65_536],
  ['10.0.1.240/28', '10.0.1.240', '10.0.1.255', 16],
  ['10.0.1.7/32', '10.0.1.7', '10.0.1.7', 1],
  ['128.0.0.0/1', '128.0.0.0', '255.255.255.255', 2 ** 31],
  ['0.0.0.0/0', '0.0.0.0', '255.255.255.255', 2 ** 32],
];
for (const [text, first, last, size] of cidrs)
  blocks(`${text}: is ${first} to ${last}, and back`, () => {
    const cidr = parseCidr(text);
    assert.equal([fromNumber(cidr.first), fromNumber(cidr.last), sizeOf(cidr)], [first, last, size]);
    assert.is(formatCidr(cidr), text);
  });

const noCidrs: [why: string, texts: string[]][] = [
  ['half of it', ['', '10.0.1.0', '10.0.1.0/', '/24']],
  ['no length of a mask', ['10.0.1.0/33', '10.0.1.0/-1', '10.0.1.0/024', '10.0.1.0/2.4']],
  ['too much', ['10.0.1.0/24/24', '10.0.1.0/24 ']],
  ['no IPv4 address', ['10.0.1/24', 'fd00::/64']],
];
for (const [why, texts] of noCidrs)
  for (const text of texts)
    blocks(`${JSON.stringify(text)}: is none, ${why}`, () =>
      refuses(
        () => parseCidr(text, '--subnet'),
        /^--subnet ".*" is not an IPv4 CIDR; give it as an address and/,
      ),
    );

blocks('bits behind the mask: are refused, with the block that was meant', () =>
  refuses(
    () => parseCidr('10.0.1.77/26', '--ip-range'),
    /^--ip-range "10\.0\.1\.77\/26" has host bits; did you mean 10\.0\.1\.64\/26\?$/,
  ),
);

const inside: [outer: string, inner: string, covered: boolean][] = [
  ['10.0.1.0/24', '10.0.1.0/24', true],
  ['10.0.1.0/24', '10.0.1.128/25', true],
  ['10.0.1.0/24', '10.0.0.0/23', false],
  ['10.0.1.0/24', '10.0.2.0/25', false],
];
for (const [outer, inner, covered] of inside)
  blocks(`${outer}: ${covered ? 'covers' : 'does not cover'} ${inner}`, () =>
    assert.is(covers(parseCidr(outer), parseCidr(inner)), covered),
  );
blocks.run();

const subnets = suite('subnet');
// https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html
const kept: [cidr: string, router: string, reserved: string, usable: string][] = [
  ['10.0.1.0/28', '10.0.1.1', '10.0.1.0 10.0.1.1 10.0.1.2 10.0.1.3 10.0.1.15', '10.0.1.4 10.0.1.14'],
  ['10.0.1.64/26', '10.0.1.65', '10.0.1.64 10.0.1.67 10.0.1.127', '10.0.1.68 10.0.1.126'],
  ['10.0.0.0/16', '10.0.0.1', '10.0.0.3 10.0.255.255', '10.0.0.4 10.0.0.255 10.0.1.0 10.0.255.254'],
];
for (const [text, router, reserved, usable] of kept)
  subnets(`${text}: AWS keeps the first four and the last, and routes on the second`, () => {
    const cidr = parseCidr(text);
    assert.is(routerOf(cidr), router);
    for (const ip of reserved.split(' ')) assert.is(isReserved(cidr, ip as Ipv4), true, ip);
    for (const ip of usable.split(' ')) assert.is(isReserved(cidr, ip as Ipv4), false, ip);
  });

subnets('an address: is inside from the first to the last', () => {
  const isInside = (ip: string) => contains(parseCidr('10.0.1.64/26'), ip as Ipv4);
  const asked = ['10.0.1.63', '10.0.1.64', '10.0.1.127', '10.0.1.128'];
  assert.equal(asked.map(isInside), [false, true, true, false]);
});
subnets.run();

const spread = suite('spread');
// The first three are the published check values of CRC-32 (ISO 3309); the others are Python's zlib.crc32.
const hashes: [text: string, crc32: number][] = [
  ['123456789', 0xcbf43926],
  ['The quick brown fox jumps over the lazy dog', 0x414fa339],
  ['', 0],
  ['10.0.1.6', 0xb9583e07],
  ['eni-0a1b2c3d4e5f60001', 0xde10370d],
];
for (const [text, crc32] of hashes)
  spread(`"${text}": its spread is its CRC-32`, () => assert.is(spreadOf(text), crc32));
spread.run();
