/** WebAssembly's page size, and types that also work for programs compiled without TypeScript's DOM or Node library. */

/** Size of a page of linear memory, in bytes. */
export const WASM_PAGE = 65536;

/** The type of a class `Scope[Name]` if TypeScript knows it, otherwise `Other`. */
type Known<Scope, Name extends string, Other> =
  Scope extends Readonly<Record<Name, { readonly prototype: infer Type }>> ? Type : Other;

type Global = typeof globalThis;
type Namespace = Global extends { readonly WebAssembly: infer Type } ? Type : unknown;

export type Memory = Known<
  Namespace,
  "Memory",
  {
    readonly buffer: ArrayBuffer;
    /** Adds pages of 64 KiB. Returns the previous number of pages. */
    grow(pages: number): number;
  }
>;
/** An object: TypeScript's type for a module has no members, so it would accept a number too. */
export type Module = object & Known<Namespace, "Module", unknown>;
export type Url = Known<Global, "URL", { readonly href: string }>;
export type FetchResponse = Known<
  Global,
  "Response",
  { readonly ok: boolean; readonly status: number; arrayBuffer(): Promise<ArrayBuffer> }
>;
