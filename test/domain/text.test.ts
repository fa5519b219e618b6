// Goal: a text from outside forges no line, sends no code to a terminal, shows no password and has no endless length.
// Method: texts as somebody with ill intent would name a container.
import { parseCidr, parseIpv4 } from '../../src/domain/address.ts';
import { IpamError } from '../../src/domain/error.ts';
import { parseEniId, parsePoolId } from '../../src/domain/ids.ts';
import { cleaned, escaped, masked, shown } from '../../src/domain/text.ts';
import { lineOf } from '../kit/failures.ts';
import { assert, suite } from '../kit/uvu.ts';

const text = suite('a text from outside');

const unsafe: [what: string, given: string, clean: string, visible: string][] = [
  ['an escape sequence', 'a\u001b[31mb', 'a [31mb', 'a\\u001b[31mb'],
  ['one of eight bits', 'a\u009b31mb', 'a 31mb', 'a\\u009b31mb'],
  ['the end of a line', 'a\r\n\n\tb', 'a b', 'a\\u000d\n\n\\u0009b'],
  ['a zero and a delete', 'a\u0000\u007fb', 'a b', 'a\\u0000\\u007fb'],
  ['another end of a line', 'a\u2028b', 'a b', 'a\\u2028b'],
  ['a turn of direction', 'a\u202eb\u2066c', 'a b c', 'a\\u202eb\\u2066c'],
  ['half of a pair', 'a\ud83db', 'a b', 'a\\ud83db'],
  ['letters of others', 'größe-名前-🚚', 'größe-名前-🚚', 'größe-名前-🚚'],
];
for (const [what, given, clean, visible] of unsafe)
  text(`${what}: is cleaned on entry, and visible in an output`, () => {
    assert.is(cleaned(given, 100), clean);
    assert.is(escaped(given), visible);
    assert.is(JSON.parse(escaped(JSON.stringify({ given }))).given, given, 'in JSON it is the same value');
  });

text('what is too long: is cut, and no half of a pair stays', () => {
  assert.is(cleaned('x'.repeat(101), 100).length, 100);
  assert.is(cleaned(`${'x'.repeat(9)}🚚`, 10), `${'x'.repeat(9)} `);
  assert.is(shown('x'.repeat(1_000_000)), 'x'.repeat(64));
});

const LONG = 'x'.repeat(10_000);
const quoting: [what: string, parse: (value: string) => unknown][] = [
  ['an address', value => parseIpv4(value)],
  ['a CIDR', value => parseCidr(value)],
  ['a CIDR with host bits', value => parseCidr(`10.0.0.1/8${value.replaceAll('x', '0')}`)],
  ['an id', value => parseEniId(value)],
  ['a PoolID', value => parsePoolId(`eni-0a;${value}`)],
];
for (const [what, parse] of quoting)
  text(`${what} that is too long: is cut in the error`, () =>
    assert.ok(lineOf(() => parse(LONG), 'bad-request').length < 250),
  );

text('the line of an error: has no control character, whatever it quotes, and an end', () => {
  assert.is(new IpamError('ec2-refused', 'EC2 said \u001b[2Jno\u0007').line, 'EC2 said [2Jno');
  assert.ok(new IpamError('ec2-refused', LONG).line.length <= 4000);
});

const secrets: [given: string, masked: string][] = [
  ['mysql://ipam:hunter2@db/ipam', 'mysql://ipam:***@db/ipam'],
  ['mysql://ipam:hun@ter2@db/ipam', 'mysql://ipam:***@db/ipam'],
  ['mysql://ipam:hun/ter@2@db/ipam', 'mysql://ipam:***@db/ipam'],
  ['mysql://ip@m:hunter2@db/ipam', 'mysql://ip@m:***@db/ipam'],
  ['at mysql://a:hun@2@b, then https://c:hunter2@d.', 'at mysql://a:***@b, then https://c:***@d.'],
  ['http://127.0.0.1:8031/ and me@example.com', 'http://127.0.0.1:8031/ and me@example.com'],
];
for (const [given, expected] of secrets)
  text(`${given}: is masked up to the last @`, () => assert.is(masked(given), expected));
text.run();
