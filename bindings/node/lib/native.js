'use strict';

const native = require('../build/Release/boxlite.node');
const { BoxliteError } = require('./errors');

native.setErrorClass(BoxliteError);

module.exports = native;
