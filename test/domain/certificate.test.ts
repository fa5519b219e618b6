// Goal: a certificate names one instance or none, however its names are written. Method: certificates that openssl
// makes, and the bytes of one cut short and changed at each place.
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { identityIn, instanceUri } from '../../src/domain/certificate.ts';
import type { InstanceId } from '../../src/domain/ids.ts';
import { type Certificates, makeCertificates } from '../kit/servers/certificates.ts';
import { assert, suite } from '../kit/uvu.ts';

const A = 'URI:ec2-ipam://instance/i-0a';
const B = 'URI:ec2-ipam://instance/i-0b';

let certificates: Certificates;
const names = suite('certificate');
names.before(() => {
  certificates = makeCertificates();
});
names.after(() => certificates.remove());

const bytesOf = (pem: string): Uint8Array => new X509Certificate(readFileSync(pem)).raw;
const identityOf = (commonName: string, san: string | null) =>
  identityIn(bytesOf(certificates.sign(commonName, san).cert));

const CASES: [commonName: string, san: string | null, instance: string | RegExp, why: string][] = [
  ['x', A, 'i-0a', 'by its URI'],
  ['x', `DNS:host-1,${A},URI:spiffe://x/y,email:a@b.c`, 'i-0a', 'among other names'],
  ['i-0b', A, 'i-0a', 'the URI, not the common name'],
  ['x', `${A},${A}`, 'i-0a', 'twice the same'],
  ['i-0a', null, 'i-0a', 'by the common name without a subjectAltName'],
  ['i-0a/CN=x', null, 'i-0a', 'by one of its common names'],
  [
    'i-0a',
    'DNS:host-1',
    /no instance/,
    'a subjectAltName without an instance: the common name does not count',
  ],
  ['i-0a/CN=i-0b', null, /several/, 'two common names'],
  ['x', `${A},${B}`, /several/, 'two URIs'],
  ['x', null, /no instance/, 'none at all'],
  ['x', `${A}/`, /not an id/, 'more than an id'],
  ['x', `${A}%00`, /not an id/, 'an escape'],
  ['x', 'URI:ec2-ipam://instance/', /not an id/, 'no id'],
  ['x', 'URI:EC2-IPAM://instance/i-0a', /not an id/, 'another case'],
  ['x', 'URI:ec2-ipam://host/i-0a', /not an id/, 'another kind'],
  ['x', `${A},URI:ec2-ipam:i-0a`, /several/, 'one that is malformed beside it'],
  ['x', `DNS:${A}`, /no instance/, 'the text of a URI in another name'],
  ['I-0A', null, /not an id/, 'a common name in another case'],
];
for (const [commonName, san, instance, why] of CASES)
  names(`CN=${commonName} ${san}: ${instance}, ${why}`, () => {
    const identity = identityOf(commonName, san);
    if (typeof instance === 'string') assert.equal(identity, { instance, why: null });
    else assert.is(identity.instance, null);
    if (instance instanceof RegExp) assert.match(identity.why ?? '', instance);
    if (identity.instance === null)
      assert.is(identity.fault, /no instance/.test(String(instance)) ? 'nameless' : 'misnamed');
  });

names('the URI that is written: is the one that is read', () =>
  assert.is(`URI:${instanceUri('i-0a' as InstanceId)}`, A),
);

names('bytes that are no certificate: name none, and throw nothing', () => {
  const der = bytesOf(certificates.sign('i-0a', A).cert);
  for (let length = 0; length < der.length; length++)
    assert.equal(
      identityIn(der.subarray(0, length)),
      { instance: null, fault: 'unreadable', why: 'it cannot be read' },
      `cut at ${length}`,
    );
  for (let at = 0; at < der.length; at++)
    for (const bit of [1, 0x80]) {
      const changed = Uint8Array.from(der);
      changed[at] = (changed[at] ?? 0) ^ bit;
      const { instance } = identityIn(changed);
      assert.ok(instance === null || /^i-[0-9a-f]+$/.test(instance), `changed at ${at}`);
    }
});
names.run();
