/** A module of the bundle: loads the parts that are not needed at the start, which are packed until they are asked for. */

/** By name, what returns the code of a part: CommonJS, compressed, in base64. In functions, since a runtime makes no
 *  text of what a function returns before it is called. */
type Packed = Readonly<Record<string, () => string>>;
/** By name, the exports of the modules that parts share with the code of the start. */
type Shared = Readonly<Record<string, () => object>>;

/** Returns what `import()` is in the parts and in the code of the start. */
export function createLoad(packed: Packed, shared: Shared, require: NodeJS.Require) {
  const parts = new Map<string, { exports: object }>();

  function exportsOf(name: string): object {
    const known = shared[name]?.() ?? parts.get(name)?.exports;
    if (known !== undefined) return known;
    const pack = packed[name];
    if (pack === undefined) return require(name);
    const { brotliDecompressSync } = require('node:zlib') as typeof import('node:zlib');
    const code = brotliDecompressSync(Buffer.from(pack(), 'base64')).toString();
    const run = new Function('module', 'require', '__load', `${code}\n//# sourceURL=ec2-ipam/${name}`);
    const part = { exports: {} };
    parts.set(name, part); // before it runs, since it may be needed by what it needs
    try {
      run(part, exportsOf, load);
    } catch (error) {
      parts.delete(name); // the next one who asks begins anew
      throw error;
    }
    return part.exports;
  }

  const load = async (name: string): Promise<object> => exportsOf(name);
  return load;
}
