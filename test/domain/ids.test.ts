// Goal: ids are read strictly, and a PoolID says all there is to know of a pool. Method: tables.
import { parseCidr } from '../../src/domain/address.ts';
import {
  formatPoolId,
  parseEniId,
  parseInstanceId,
  parsePoolId,
  parseSubnetId,
  poolFor,
} from '../../src/domain/ids.ts';
import { lineOf, refuses } from '../kit/failures.ts';
import { ENI } from '../kit/rows.ts';
import { assert, suite } from '../kit/uvu.ts';

type Parse = (text: string) => string;
const ids = suite('id');
const good: [parse: Parse, text: string][] = [
  [parseEniId, 'eni-0a1b2c3d'],
  [parseEniId, 'eni-0a1b2c3d4e5f60001'],
  [parseSubnetId, 'subnet-0a1b2c3d4e5f60001'],
  [parseInstanceId, 'i-0a1b2c3d4e5f60001'],
];
for (const [parse, text] of good) ids(`${text}: is one`, () => assert.is(parse(text), text));

const bad: [parse: Parse, text: string, line: RegExp][] = [
  [parseEniId, '', /^eni-id "" is not an id of the form eni-0123abcd$/],
  [parseEniId, 'eni-', /"eni-" is not/],
  [parseEniId, 'ENI-0a', /"ENI-0a" is not/],
  [parseEniId, 'eni-0A', /"eni-0A" is not/],
  [parseEniId, 'eni-0a\n', /is not an id/],
  [parseEniId, ' eni-0a', /is not an id/],
  [parseEniId, "eni-0a' or ''='", /is not an id/],
  [parseEniId, `eni-${'0'.repeat(25)}`, /is not an id/],
  [parseEniId, 'subnet-0a', /is not an id of the form eni-/],
  [parseSubnetId, 'eni-0a', /is not an id of the form subnet-/],
  [parseInstanceId, 'eni-0a', /is not an id of the form i-/],
];
for (const [parse, text, line] of bad)
  ids(`${JSON.stringify(text)}: is none to ${parse.name}`, () => refuses(() => parse(text), line));

ids('what is refused: is quoted only in part', () => {
  const line = lineOf(() => parseEniId('x'.repeat(1000)));
  assert.is(line, `eni-id "${line.slice(8, 72)}" is not an id of the form eni-0123abcd`);
});
ids.run();

const poolIds = suite('PoolID');
const pools: [text: string, range: string | null][] = [
  ['eni-0a', null],
  ['eni-0a;range=10.0.1.128/25', '10.0.1.128/25'],
  ['eni-0a;range=10.0.1.7/32', '10.0.1.7/32'],
];
for (const [text, range] of pools)
  poolIds(`${text}: is its own description`, () => {
    const pool = { eni: ENI, range: range === null ? null : parseCidr(range) };
    assert.equal(parsePoolId(text), pool);
    assert.is(formatPoolId(pool), text);
  });

const nonPools: [text: string, line: RegExp][] = [
  ['eni-0a;v6', /^pool "eni-0a;v6" is IPv6, which is not served$/],
  ['eni-0a;', /is not one of this driver/],
  ['eni-0a;range', /is not one of this driver/],
  ['eni-0a;range=', /^PoolID range "" is not an IPv4 CIDR/],
  ['eni-0a;range=10.0.1.1/25', /^PoolID range ".*" has host bits/],
  [';range=10.0.1.128/25', /^PoolID "" is not an id/],
  ['eni-0a eni-0b', /^PoolID "eni-0a eni-0b" is not an id/],
];
for (const [text, line] of nonPools)
  poolIds(`"${text}": is none`, () => refuses(() => parsePoolId(text), line));

poolIds('a range: is inside the subnet, or refused', () => {
  const subnet = parseCidr('10.0.1.0/24');
  const poolOf = (range: string) => poolFor(ENI, subnet, parseCidr(range));
  for (const range of ['10.0.1.0/24', '10.0.1.0/25', '10.0.1.255/32'])
    assert.equal(poolOf(range).range, parseCidr(range));
  for (const range of ['10.0.0.0/23', '10.0.2.0/25', '0.0.0.0/0'])
    refuses(() => poolOf(range), /^--ip-range \S+ is not inside 10\.0\.1\.0\/24; give/);
});
poolIds.run();
